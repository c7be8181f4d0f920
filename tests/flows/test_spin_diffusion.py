"""The whole run: counts of what was done, what a repeat does, what a repair does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.store import hash_file, read_manifest
from tests.flows.conftest import Played, play, tiny


def files_of(root: Path) -> dict[str, str]:
    """Hash of every Parquet file and weight below a folder."""
    paths = [p for p in root.rglob("*") if p.suffix in {".parquet", ".safetensors"} and ".prefect" not in p.parts]
    return {str(path.relative_to(root)): hash_file(path) for path in paths}


def test_first_run_does_exactly_what_the_config_says(played: Played) -> None:
    # evaluated: data, base, SFT, two iterations = 5 x 8 scored, 4 x 8 made; sampled: 2 x 24; steps: 3 + 2 x 3
    assert played.totals == "80 images sampled, 9 optimizer steps, 40 images scored"


def test_second_run_does_nothing(played: Played) -> None:
    before = files_of(played.root)
    assert play(played.config) == "0 images sampled, 0 optimizer steps, 0 images scored"
    after = files_of(played.root)
    changed = [name for name in before if before[name] != after[name]]
    assert changed == []


def test_record_names_every_stage_in_order(played: Played) -> None:
    record = json.loads((played.root / "tiny" / "run.json").read_text())
    assert [stage["label"] for stage in record["stages"]] == ["base", "SFT", "SPIN 1", "SPIN 2"]
    digests = [stage["digest"] for stage in record["stages"]]
    assert [stage["opponent_digest"] for stage in record["stages"]] == [None, *digests[:-1]]
    assert record["prompts"] == {"train": 24, "validation": 128, "test": 256}


def test_a_deleted_shard_and_nothing_else_is_sampled_again(copy: Callable[[], Played]) -> None:
    run = copy()
    before = files_of(run.root)
    shard = RunsRoot(run.root).run("tiny").iteration(1).samples(1)
    shard.unlink()
    assert play(run.config) == "8 images sampled, 0 optimizer steps, 0 images scored"
    after = files_of(run.root)
    assert {name for name in before if after[name] != before[name]} <= {"tiny/report/metrics.parquet"}


def test_a_flipped_bit_in_a_shard_is_found_and_mended(copy: Callable[[], Played]) -> None:
    run = copy()
    shard = RunsRoot(run.root).run("tiny").iteration(2).samples(0)
    whole = shard.read_bytes()
    middle = len(whole) // 2
    shard.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert play(run.config).startswith("8 images sampled, 0 optimizer steps")
    assert shard.read_bytes() == whole


def test_a_lost_checkpoint_is_trained_again_to_the_same_weights(copy: Callable[[], Played]) -> None:
    run = copy()
    checkpoint = RunsRoot(run.root).run("tiny").iteration(2).checkpoint(3)
    digest = read_manifest(checkpoint).content_digest
    (checkpoint / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert play(run.config) == "0 images sampled, 3 optimizer steps, 0 images scored"
    assert read_manifest(checkpoint).content_digest == digest


def test_a_changed_config_is_refused_with_the_field(played: Played) -> None:
    with pytest.raises(ConfigError, match=r"train\.beta: 300\.0 -> 2000\.0"):
        play(tiny(played.root, "train.beta=2000"))


def test_another_run_shares_data_and_the_base_evaluation(copy: Callable[[], Played]) -> None:
    second = tiny(copy().root, "run.name=second", "iterations=0", "sft.steps=1")
    # only the new SFT model is sampled and scored: 8 of each
    assert play(second) == "8 images sampled, 1 optimizer steps, 8 images scored"


def test_checkpoint_opens_in_plain_diffusers_and_draws(played: Played) -> None:
    from diffusers import DiffusionPipeline

    import spin.diffusion.torchvision_guard  # noqa: F401

    folder = RunsRoot(played.root).run("tiny").iteration(2).checkpoint(3)
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a large red star on a navy background", num_inference_steps=2).images[0]
    assert image.size == (32, 32)


def test_no_time_or_host_stands_in_a_parquet_file(played: Played) -> None:
    log = pq.read_schema(RunsRoot(played.root).run("tiny").iteration(1).training_log)
    assert not {"seconds", "host", "images_per_second"} & set(log.names)


def test_report_is_written(played: Played) -> None:
    page = RunsRoot(played.root).run("tiny").report.read_text()
    assert "SPIN 2" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
