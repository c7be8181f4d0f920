"""What `plan` counts, with rates that one can reckon with in the head."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.forecast import Forecast, forecast
from spin.core.config import load_config
from spin.diffusion.probe import Rates

RATES = Rates(
    sampled_image=2.0, evaluated_image=1.0, pair=3.0, sft_image=1.0, latent_bytes=10, checkpoint_bytes=1000
)  # fmt: skip
# 384 rows; 2 iterations of 10 steps x 8 pairs; a supervised start of 5 steps x 4 images
SMALL = ("iterations=2", "train.steps=10", "train.batch_size=8", "sft.steps=5", "sft.batch_size=4")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flows.forecast.measured", lambda *_: RATES)

    def counted(*overrides: str) -> Forecast:
        root = f"run.root={tmp_path}"
        return forecast(load_config("miniature", overrides=[*SMALL, root, "execution.device=cpu", *overrides]))

    return counted


def work(found: Forecast, kind: str) -> list[tuple[int, float]]:
    return [(line.count, line.seconds) for line in found.lines if line.work == kind]


def test_an_iteration_samples_what_it_reads(plan) -> None:
    found = plan()
    assert work(found, "sample") == [(80, 160.0)] * 2
    assert work(found, "train") == [(20, 20.0), (80, 240.0), (80, 240.0)]
    # 2 x 80 latents; 3 checkpoints and the last two states of three stages, each of three copies
    assert found.disk_bytes == 160 * 10 + (3 + 18) * 1000
    assert found.memory_bytes == 5 * 1000


def test_all_rows_are_sampled_where_they_are_asked_for(plan) -> None:
    assert work(plan("sampling.rows=all", "sampling.draws=2"), "sample") == [(768, 1536.0)] * 2


def test_labelled_losers_cost_no_sampling(plan) -> None:
    found = plan("train.losers=labelled")
    assert work(found, "sample") == []
    assert [line.stage for line in found.lines if line.work == "train"] == ["sft", "iteration 1", "iteration 2"]
    assert work(found, "train") == work(plan(), "train")


def test_several_time_steps_a_pair_cost_as_many_passes(plan) -> None:
    assert work(plan("train.timesteps_per_pair=4"), "train")[1:] == [(80, 960.0)] * 2


def test_a_trajectory_is_kept_for_every_image(plan) -> None:
    more = plan("train.trajectory=reverse").disk_bytes - plan().disk_bytes
    assert more == 160 * 10 * 20  # solver steps


def test_an_average_is_a_checkpoint_of_its_own_from_the_second_iteration_on(plan) -> None:
    assert plan("train.opponent=average").disk_bytes - plan().disk_bytes == 1000


@pytest.mark.parametrize(
    ("overrides", "copies"),
    [
        (("sft.lora_rank=4", "train.lora_rank=4"), 1),  # the reference is the same network
        (("sft.lora_rank=4", "train.lora_rank=4", "train.opponent=earlier"), 2),
        (("train.lora_rank=4",), 4),  # the supervised start trains all weights
        (("iterations=0",), 4),
    ],
)
def test_memory_is_that_of_the_largest_stage(plan, overrides: tuple[str, ...], copies: int) -> None:
    assert plan(*overrides).memory_bytes == copies * 1000
