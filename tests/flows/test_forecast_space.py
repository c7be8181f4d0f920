"""Disk and memory, part by part, with counts that one can reckon with in the head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flows.forecast_space import Need, disk_parts, needs, size_text
from spin.core.config import Config, load_config
from spin.core.counted import Learning, Looking
from spin.core.outline import Rows, Task
from tests.flows.counted import COUNTS

ROWS = Rows(train=80, all=100, prompts=50, told="")
SMALL = ("iterations=2", "train.batch_size=8", "sft.batch_size=4", "train.micro_batch_size=8")
TASKS = [
    Task("iteration-01", "sample", "", "", "sampled", 60), Task("iteration-02", "sample", "", "", "sampled", 40),
    Task("base", "evaluate", "", "", "evaluated", 7),
]  # fmt: skip
ADAPTER = Learning(COUNTS.passes.denoised, trained=40, adapter=40, pass_bytes=300, image_bytes=30)


def small(*overrides: str) -> Config:
    return load_config("miniature", overrides=[*SMALL, *overrides])


def disk(*overrides: str, rows: Rows = ROWS, **counts: Any) -> dict[str, int]:
    return disk_parts(small(*overrides), replace(COUNTS, **counts), rows, TASKS)


def need(work: str, *overrides: str, processes: int = 1, **counts: Any) -> Need:
    found = needs(small(*overrides), replace(COUNTS, **counts), processes=processes)
    return next(each for each in found if each.work.startswith(work))


def test_what_a_run_writes() -> None:
    found = disk()
    assert found["real latents"] == 100 * 2 * 10 * 4  # mean and log-variance in float32
    assert found["text"] == 50 * 5 * 4
    assert found["samples"] == 100 * 10 * 4
    # two rounds and the supervised start; the other networks are copied once and linked after
    assert found["checkpoints"] == 3 * 1000 * 4 + (100 + 200) * 4
    assert found["training states"] == 2 * 3 * 3 * 1000 * 4  # the last two of three, weights and two moments
    assert found["held-out pictures"] == 20 * round(1.84 * 64)
    assert found["evaluations"] == 7 * round(1.84 * 64)


@pytest.mark.parametrize(
    ("override", "part", "times"),
    [
        ("sampling.loser_source=roundtrip", "samples", 2),
        ("train.trajectory=reverse", "samples", 1 + 20),
    ],
)
def test_what_is_kept_more_than_once(override: str, part: str, times: int) -> None:
    assert disk(override)[part] == times * disk()[part]


def test_both_flips_of_both_sides_are_kept() -> None:
    roundtrip = disk("sampling.loser_source=roundtrip")
    both = disk("sampling.loser_source=roundtrip", "train.flip=true")
    assert both["samples"] == 2 * roundtrip["samples"]
    assert both["real latents"] == roundtrip["real latents"] * 180 // 100  # held-out ones are never mirrored
    labelled = disk("train.losers=labelled", "train.flip=true")
    assert labelled["real latents"] == roundtrip["real latents"] * (100 + 3 * 80) // 100


def test_labelled_losers_are_cached_beside_the_winners() -> None:
    assert disk("train.losers=labelled")["real latents"] == disk()["real latents"] * 180 // 100


def test_averages_and_their_opponents_take_space_of_their_own() -> None:
    assert disk("train.opponent=average")["checkpoints"] - disk()["checkpoints"] == 1000 * 4
    more = disk("train.ema_decay=0.99")["training states"] - disk()["training states"]
    assert more == 2 * 2 * 1000 * 4


def test_an_adapters_states_are_small_and_its_checkpoints_are_not() -> None:
    found = disk("train.lora_rank=4", train=ADAPTER)
    assert found["training states"] == 2 * 3 * (1000 + 2 * 40) * 4
    assert found["checkpoints"] == disk()["checkpoints"]


def test_stored_pictures_are_counted() -> None:
    assert disk("sampling.store_images=true")["samples"] - disk()["samples"] == 100 * round(1.84 * 64)


def test_nothing_is_said_of_data_that_nobody_knows() -> None:
    found = disk(rows=Rows(None, None, None, ""))
    assert found["real latents"] == found["text"] == found["held-out pictures"] == 0


def test_self_play_holds_policy_gradients_moments_and_opponent() -> None:
    found = need("train")
    assert found.work == "train, 8 pairs a pass"
    assert found.parts == {
        "weights": 4000, "gradients": 4000, "AdamW's moments": 8000, "average": 0, "opponent": 4000,
        "activations": 300,
    }  # fmt: skip
    assert found.total == 20_300


def test_supervised_training_has_no_opponent_and_its_own_batch() -> None:
    found = need("sft")
    assert (found.work, found.parts["opponent"], found.parts["activations"]) == ("sft, 4 images a pass", 0, 150)


def test_processes_share_the_batch() -> None:
    assert need("train", processes=4).work == "train, 2 pairs a pass"


def test_an_adapter_is_its_own_opponent_unless_that_is_another_model() -> None:
    parts = need("train", "train.lora_rank=4", train=ADAPTER).parts
    assert (parts["weights"], parts["gradients"], parts["AdamW's moments"], parts["opponent"]) == (4160, 160, 320, 0)
    other = need("train", "train.lora_rank=4", "train.opponent=earlier", train=ADAPTER).parts
    assert other["opponent"] == 4000


def test_an_opponent_whose_errors_are_stored_is_not_in_memory_while_the_policy_trains() -> None:
    assert need("train", "train.reference=stored").parts["opponent"] == 0


def test_averaged_weights_are_one_more_copy() -> None:
    assert need("train", "train.ema_decay=0.99").parts["average"] == 4000
    assert need("sft", "train.ema_decay=0.99").parts["average"] == 0
    assert need("sft", "sft.ema_decay=0.99").parts["average"] == 4000


def test_moments_of_eight_bits_take_a_quarter() -> None:
    assert need("train", "train.optimizer=adamw_8bit").parts["AdamW's moments"] == 2000


def test_half_precision_halves_what_draws_and_nothing_that_trains() -> None:
    half = need("sample", "execution.dtype=bfloat16")
    assert half.parts["weights"] == 2000
    assert need("train", "execution.dtype=bfloat16").parts["weights"] == 4000


def test_judges_are_resident_where_they_are_the_published_ones() -> None:
    assert need("evaluate").parts["judges"] == 0
    published = need("evaluate", "evaluation.judges=published", "evaluation.scorer_dtype=bfloat16")
    assert published.parts["judges"] == 5_700_000_000


def test_a_checker_stays_loaded_and_looks_at_what_was_drawn_before() -> None:
    checker = Looking(COUNTS.passes.denoised, weight_bytes=500, picture_bytes=7)
    flag = ("safety.generated=flag", "safety.real=flag", "sampling.batch_size=100")
    sampled, plain = need("sample", *flag, checker=checker).parts, need("sample", "sampling.batch_size=100").parts
    assert (plain["safety checker"], plain["activations"]) == (0, 640)
    assert (sampled["safety checker"], sampled["activations"]) == (500, 700)  # the larger of the two
    evaluated = need("evaluate", *flag, checker=checker).parts
    assert (evaluated["safety checker"], evaluated["activations"]) == (500, 640)
    assert need("prepare", *flag, checker=checker).total == 77 + 500
    assert need("prepare", "safety.generated=flag", checker=checker).total == 77


def test_a_smaller_batch_that_fits_is_found() -> None:
    found = need("train")  # 20300 with 8 pairs of 30
    assert [found.fitting(memory) for memory in (20_300, 20_299, 20_060 + 30, 20_060, 100)] == [8, 7, 1, 0, 0]
    assert found.fitting(10**6) > 8


def test_preparing_is_told_as_it_was_counted() -> None:
    assert need("prepare").total == 77


@pytest.mark.parametrize(
    ("size", "text"),
    [(2**29, "512 MiB"), (1.5 * 2**30, "1.5 GiB"), (200 * 2**30, "200 GiB"), (2**40, "1,024 GiB")],
)
def test_sizes_are_told_in_words(size: float, text: str) -> None:
    assert size_text(size) == text


def test_processes_share_moments_or_all_weights() -> None:
    moments = need("train", "execution.train_sharding=optimizer", processes=4).parts
    assert (moments["weights"], moments["AdamW's moments"]) == (4000, 2000)
    everything = need("train", "execution.train_sharding=full", processes=4).parts
    assert (everything["weights"], everything["gradients"], everything["AdamW's moments"]) == (1000, 1000, 2000)
    assert everything["opponent"] == 1000
