"""Seconds of each kind of work, from operations or from a probe, and what the counting is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.forecast_counts import count, seconds_by_probe, seconds_by_speed
from flows.forecast_work import bucket_padding
from spin.core.config import load_config
from spin.core.counted import Drawing, Flops, Looking
from spin.core.gpus import DRAWING_SHARE, TRAINING_SHARE, Speed
from spin.core.outline import Rows, Unit
from spin.diffusion.probe import Rates
from spin.miniature.packaged import packaged_pipeline_path
from tests.flows.counted import COUNTS

MINIATURE = load_config("miniature")
SPEED = Speed("it", half=4e-12, tf32=2e-12, single=1e-12, origin="measured")  # 4, 2 and 1 operation a second
CHECKER = Looking(Flops(matrix=9.0), weight_bytes=500, picture_bytes=7)
RATES = Rates(sampled_image=2.0, evaluated_image=92.0, pair=3.0, sft_image=6.0)
ROWS = Rows(train=80, all=100, prompts=50, told="")


def test_operations_over_a_rate_are_seconds() -> None:
    found = seconds_by_speed(MINIATURE, COUNTS, ROWS, SPEED)
    assert found["sampled"] == pytest.approx((20 / 2 + 20 / 1 + 6 / 2) / DRAWING_SHARE)
    assert found["evaluated"] == found["sampled"]  # the miniature's judges cost nothing beside it
    assert found["pair"] == pytest.approx((8 / 2 + 8 / 1) / TRAINING_SHARE)
    assert found["sft"] == pytest.approx((3 / 2 + 3 / 1) / TRAINING_SHARE)
    assert found["prepared"] == pytest.approx((3 / 2 + 2 * 0.5 / 1) / DRAWING_SHARE)  # half a caption a picture


def test_half_precision_is_the_runs_and_the_autoencoder_has_its_own() -> None:
    half = load_config("miniature", overrides=["execution.dtype=float16"])
    found = seconds_by_speed(half, COUNTS, ROWS, SPEED)
    assert found["sampled"] == pytest.approx((40 / 4 + 6 / 2) / DRAWING_SHARE)
    assert found["pair"] == pytest.approx(16 / 4 / TRAINING_SHARE)
    assert found["prepared"] == seconds_by_speed(MINIATURE, COUNTS, ROWS, SPEED)["prepared"]  # float32 always


def test_published_judges_cost_a_teraflop_a_picture() -> None:
    speed = replace(SPEED, single=1.0, tf32=1.0, half=1.0)
    published = load_config("miniature", overrides=["evaluation.judges=published"])
    more = seconds_by_speed(published, COUNTS, ROWS, speed)["evaluated"]
    assert more == pytest.approx(1 / DRAWING_SHARE, rel=1e-6)


def test_work_that_a_run_does_not_do_takes_no_time() -> None:
    found = seconds_by_speed(MINIATURE, replace(COUNTS, train=None, sampled=None, sft=None), ROWS, SPEED)
    assert found["pair"] == found["sampled"] == found["sft"] == 0


def test_a_probes_seconds_are_taken_as_they_are() -> None:
    found = seconds_by_probe(MINIATURE, COUNTS, ROWS, RATES)
    assert (found["sampled"], found["evaluated"], found["pair"], found["sft"]) == (2.0, 92.0, 3.0, 6.0)
    # an evaluated picture is 46 operations and takes 92 s: two seconds for each of 3 + 2 / 2
    assert found["prepared"] == pytest.approx(8.0)
    published = load_config("miniature", overrides=["evaluation.judges=published"])
    assert seconds_by_probe(published, COUNTS, ROWS, RATES)["evaluated"] == pytest.approx(92 + 2e12)


@pytest.mark.parametrize(
    ("overrides", "looks"),
    [
        ((), {"prepared": 0.0, "sampled": 0.0, "evaluated": 0.0}),
        (("safety.generated=flag",), {"prepared": 0.0, "sampled": 1.0, "evaluated": 1.0}),
        (("safety.real=drop",), {"prepared": 1.0, "sampled": 0.0, "evaluated": 0.0}),
        # 80 of 100 pictures are encoded a second time, and looked at once
        (("safety.real=drop", "train.flip=true", "sampling.loser_source=roundtrip"), {"prepared": 100 / 180}),
    ],
)
def test_a_checker_takes_a_pass_of_each_picture_that_it_sees(
    overrides: tuple[str, ...], looks: dict[Unit, float]
) -> None:
    config, seen = load_config("miniature", overrides=list(overrides)), replace(COUNTS, checker=CHECKER)
    by_speed = [seconds_by_speed(config, counts, ROWS, SPEED) for counts in (COUNTS, seen)]
    by_probe = [seconds_by_probe(config, counts, ROWS, RATES) for counts in (COUNTS, seen)]
    for unit, each in looks.items():
        assert by_speed[1][unit] - by_speed[0][unit] == pytest.approx(each * 9 / 1 / DRAWING_SHARE)
        assert by_probe[1][unit] - by_probe[0][unit] == pytest.approx(each * 9 * 2)


@pytest.mark.parametrize(
    ("overrides", "counted"),
    [
        ((), False),
        (("safety.real=flag",), True),
        (("safety.generated=drop",), True),
        (("safety.generated=drop", "safety.checker=tests.checkers:bright"), False),
    ],
)
def test_diffusers_checker_is_counted_where_it_looks(overrides: tuple[str, ...], counted: bool) -> None:
    config = load_config("miniature", overrides=["iterations=0", "sft.steps=0", *overrides])
    assert (count(config, packaged_pipeline_path(), processes=1).checker is not None) is counted


def test_captions_are_shared_by_all_pictures_that_are_encoded() -> None:
    labelled = load_config("miniature", overrides=["train.losers=labelled"])
    found = seconds_by_speed(labelled, COUNTS, ROWS, SPEED)
    assert found["prepared"] == pytest.approx((3 / 2 + 2 * (50 / 180) / 1) / DRAWING_SHARE)


def test_only_what_a_run_does_is_counted() -> None:
    supervised = load_config("miniature", overrides=["iterations=0"])
    found = count(supervised, packaged_pipeline_path(), processes=1)
    assert (found.train, found.sampled) == (None, None)
    assert found.sft is not None
    assert found.sft.trained == found.sizes.weights == 1_968_848
    labelled = load_config("miniature", overrides=["train.losers=labelled", "sft.steps=0"])
    played = count(labelled, packaged_pipeline_path(), processes=1)
    assert (played.sft, played.sampled) == (None, None)
    assert played.train is not None


@pytest.mark.system
def test_what_an_opponent_does_to_its_pictures_is_counted() -> None:
    def sampled(*overrides: str) -> Drawing:
        config = load_config("miniature", overrides=["sft.steps=0", "execution.dtype=bfloat16", *overrides])
        found = count(config, packaged_pipeline_path(), processes=1).sampled
        assert found is not None
        return found

    assert sampled().vae_bytes == sampled().vae.total == 0
    looked_at, once = sampled("safety.generated=flag"), sampled("sampling.loser_source=roundtrip")
    assert looked_at.vae == sampled("sampling.store_images=true").vae
    assert (looked_at.vae_dtype, once.vae_dtype) == ("bfloat16", "float32")
    both = sampled("sampling.loser_source=roundtrip", "train.flip=true")
    assert both.vae.total - once.vae.total == pytest.approx(once.vae.total - looked_at.vae.total)
    assert both.vae.total > once.vae.total > looked_at.vae.total


def test_buckets_fill_up_batches_of_their_own_in_every_shard() -> None:
    own = ["data.source=imagefolder", "data.path=own", "data.bucket_step=64", "sampling.batch_size=16"]
    times = []
    for more in (["data.aspect_ratio=square"], ["data.aspect_ratio=buckets"]):
        config = load_config("miniature", overrides=[*own, *more, "sampling.shard_size=128"])
        times.append(seconds_by_speed(config, replace(COUNTS, sizes=replace(COUNTS.sizes, picture=1024)), ROWS, SPEED))
    square, buckets = times
    assert buckets["sampled"] == pytest.approx(square["sampled"] * (1 + 10 / 2 * 16 / 128))  # 11 of them
    assert {unit: buckets[unit] for unit in buckets if unit != "sampled"} == {
        unit: square[unit] for unit in square if unit != "sampled"
    }
    few = load_config("miniature", overrides=[*own, "data.aspect_ratio=buckets", "sampling.shard_size=2"])
    assert bucket_padding(few, side=1024) == 16  # at the most a batch for each image
