"""What an arm spends, and how many steps its budget allows."""

from __future__ import annotations

import pytest

from spin.core.budgets import check_equal, solved_steps, spent, steps_key
from spin.core.config import Config, load_config
from spin.core.errors import ConfigError
from spin.core.recipe import Rates

RATES = Rates(pair=2.0, sampled_image=6.0, lora_image=0.5)


def config(*overrides: str) -> Config:
    return load_config("miniature", overrides=["sft.steps=0", "train.batch_size=32", *overrides])


def test_a_pair_is_one_image_and_costs_what_the_rates_say() -> None:
    found = spent(config("iterations=1", "train.steps=100"), RATES, rows=384)
    # 100 x 32 pairs; 384 rows are drawn once; 3200 x 2 + 384 x 6
    assert (found.images, found.sampled, found.time) == (3200, 384, 8704.0)


def test_fewer_readings_than_rows_sample_only_what_is_read() -> None:
    found = spent(config("iterations=1", "train.steps=3"), RATES, rows=384)
    assert (found.sampled, found.time) == (96, 96 * 2 + 96 * 6)


def test_supervised_images_are_the_unit() -> None:
    found = spent(config("iterations=0", "sft.steps=10", "sft.batch_size=8"), RATES, rows=384)
    assert (found.images, found.sampled, found.time) == (80, 0, 80.0)


def test_more_draws_guidance_and_solver_steps_cost_more() -> None:
    plain = spent(config("iterations=1", "train.steps=1000"), RATES, rows=10).time
    drawn = spent(config("iterations=1", "train.steps=1000", "sampling.draws=2"), RATES, rows=10).time
    guided = spent(config("iterations=1", "train.steps=1000", "sampling.guidance_scale=3"), RATES, rows=10).time
    longer = spent(config("iterations=1", "train.steps=1000", "sampling.num_inference_steps=50"), RATES, rows=10).time
    assert (drawn - plain, guided - plain, longer - plain) == (60, 60, 90)


@pytest.mark.parametrize(("scheduler", "calls"), [("dpmsolver++", 20), ("edm", 39), ("pndm", 21)])
def test_a_solver_costs_as_often_as_it_asks_the_network(scheduler: str, calls: int) -> None:
    found = spent(config("iterations=1", "train.steps=1000", f"sampling.scheduler={scheduler}"), RATES, rows=10)
    assert found.time == pytest.approx(1000 * 32 * 2 + 10 * 6 * calls / 20)


def test_labelled_losers_are_not_sampled() -> None:
    assert spent(config("iterations=1", "train.losers=labelled", "train.steps=10"), RATES, rows=384).sampled == 0


def test_every_timestep_of_a_pair_is_paid() -> None:
    once = spent(config("iterations=1", "train.steps=10"), RATES, rows=384)
    often = spent(config("iterations=1", "train.steps=10", "train.timesteps_per_pair=4"), RATES, rows=384)
    assert often.time - once.time == 3 * 320 * 2.0
    assert often.images == once.images


def test_all_rows_are_sampled_where_asked() -> None:
    assert spent(config("iterations=1", "train.steps=1", "sampling.rows=all"), RATES, rows=384).sampled == 384


def test_an_adapter_has_a_rate_of_its_own() -> None:
    assert spent(config("iterations=0", "sft.steps=10", "sft.lora_rank=4"), RATES, rows=384).time == 10 * 32 * 0.5


def test_the_most_steps_within_the_budget_are_found() -> None:
    wanted = config("iterations=3")
    steps = solved_steps(wanted, RATES, rows=384, by="time", budget=23_040, arm="spin")
    # 3 (n x 64) + 3 x 384 x 6 <= 23040: n = 84
    assert steps == 84
    assert solved_steps(wanted, RATES, rows=384, by="images", budget=23_040, arm="spin") == 240


def test_a_supervised_arm_is_solved_by_its_own_steps() -> None:
    assert steps_key(config("iterations=0", "sft.steps=1")) == "sft.steps"
    assert solved_steps(config("iterations=0", "sft.steps=1"), RATES, rows=9, by="images", budget=100, arm="sft") == 3


def test_a_budget_for_not_even_one_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="spends 3,360 training images with one step an iteration; its budget"):
        solved_steps(config("iterations=3", "sft.steps=102"), RATES, rows=9, by="images", budget=3000, arm="spin")


def test_own_steps_that_meet_the_budget_pass() -> None:
    check_equal(
        config("iterations=1", "train.steps=100"), RATES, rows=384, by="images", budget=3201, arm="spin", measure="sft"
    )


def test_own_steps_that_miss_the_budget_are_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"unequal budgets: arm 'spin' spends 3,200 training images.* is 6,400"):
        check_equal(
            config("iterations=1", "train.steps=100"), RATES, rows=384, by="images", budget=6400, arm="spin",
            measure="sft",
        )  # fmt: skip


def test_an_arm_with_fewer_rows_draws_fewer_images() -> None:
    assert spent(config("iterations=1", "train.steps=100", "data.rows=48"), RATES, rows=384).sampled == 48


def test_without_prepared_data_an_image_is_counted_for_each_reading() -> None:
    assert spent(config("iterations=2", "train.steps=100"), RATES, rows=None).sampled == 2 * 3200


def test_calls_without_guidance_cost_one_pass() -> None:
    asked = ("iterations=1", "train.steps=1000", "sampling.guidance_scale=3")
    everywhere = spent(config(*asked), RATES, rows=10).time
    middle = spent(config(*asked, "sampling.guidance_interval=[0.25,0.75]"), RATES, rows=10).time
    assert everywhere - middle == 10 * 6 * 0.5  # 10 of 20 calls
    reused = spent(config(*asked, "sampling.reuse_every=4"), RATES, rows=10).time
    assert reused == everywhere  # what it saves is the model's, and not known here
