from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder
from spin.core.requests import from_json, to_json
from spin.core.schema import content_digest, read_table, read_tensors, tensor_column, tensor_field, write_table
from spin.core.store import commit, discard, read_manifest
from spin.sample.checking import rows_to_check
from spin.sample.request import SampleResult
from spin.sample.room import run
from tests.world import World, copy_stage, fingerprint

Latents = npt.NDArray[np.float32]


def committed_again(
    stage: StageFolder, shard: int, change: Callable[[Latents], Latents], *, column: str = "latent", **place: Any
) -> None:
    """The shard with other numbers and a manifest that fits them: nothing but drawing can tell."""
    path = stage.samples(shard)
    manifest, table = read_manifest(path), read_table(path)
    assert manifest is not None
    latents = change(read_tensors(table, column).copy())
    field = tensor_field(column, latents.shape[1:], "float32")
    table = table.set_column(table.schema.get_field_index(column), field, tensor_column(latents))
    discard(path)
    commit(
        path, lambda target: write_table(target, table), kind="samples", digest=content_digest,
        identity=manifest.identity, environment=lambda: {**manifest.environment, **place},
    )  # fmt: skip


def shifted(rows: slice, by: float) -> Callable[[Latents], Latents]:
    def change(latents: Latents) -> Latents:
        latents[rows, 3, 1, 2] += by
        return latents

    return change


def found(result: SampleResult) -> tuple[int, int, float]:
    return result.checked, result.differing, result.largest_difference


@pytest.fixture
def shards(world: World, tmp_path: Path) -> StageFolder:
    """24 images in shards of 9, 9 and 6."""
    stage = world.stage(tmp_path / "shards", shard_size=9)
    run(world.sample_request(stage, range(3)))
    return stage


@pytest.mark.parametrize("loser_source", ["latents", "roundtrip"])
def test_undisturbed_shards_are_drawn_again_bit_for_bit(world: World, tmp_path: Path, loser_source: str) -> None:
    stage = world.stage(tmp_path, shard_size=9)
    request = world.sample_request(stage, range(3), loser_source=loser_source, guidance_scale=3.0, store_images=True)
    assert found(run(request)) == (0, 0, 0.0)
    before = fingerprint(tmp_path)
    result = run(replace(request, check_images=11))
    assert found(result) == (11, 0, 0.0)
    assert (result.made, result.images, result.notes) == ((), 0, ())
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize(("asked", "checked"), [(1, 1), (5, 5), (99, 24)])
def test_as_many_images_are_checked_as_there_are(world: World, shards: StageFolder, asked: int, checked: int) -> None:
    assert found(run(world.sample_request(shards, range(3), check_images=asked))) == (checked, 0, 0.0)


def test_what_is_checked_is_spread_by_identity_and_stands_in_the_order_of_the_plan(shards: StageFolder) -> None:
    rows = rows_to_check(shards, range(3), 6)
    positions = [row["position"] for row in rows]
    assert positions == sorted(set(positions)) != list(range(6))
    assert len({row["shard"] for row in rows}) > 1
    assert {row["sample_id"] for row in rows} < {row["sample_id"] for row in rows_to_check(shards, range(3), 7)}
    assert {row["shard"] for row in rows_to_check(shards, [1], 6)} == {1}
    assert rows_to_check(shards, range(3), 0) == rows_to_check(shards, range(3), -1) == []


def test_a_shard_with_other_numbers_and_a_fitting_manifest_is_caught(world: World, shards: StageFolder) -> None:
    committed_again(shards, 1, shifted(slice(2, 6), 0.25))
    before = fingerprint(shards.path)
    result = run(world.sample_request(shards, range(3), check_images=24))
    assert (result.made, result.checked, result.differing) == ((), 24, 4)
    assert result.largest_difference == pytest.approx(0.25, rel=1e-6)
    assert fingerprint(shards.path) == before
    assert found(run(world.sample_request(shards, [0, 2], check_images=24))) == (15, 0, 0.0)


@pytest.mark.parametrize("column", ["latent_mean", "latent_log_variance"])
def test_of_a_round_trip_both_columns_are_compared(world: World, tmp_path: Path, column: str) -> None:
    stage = world.stage(tmp_path, reads=10)
    request = world.sample_request(stage, loser_source="roundtrip", check_images=10)
    run(request)
    committed_again(stage, 0, shifted(slice(7, 8), -0.5), column=column)
    result = run(request)
    assert (result.checked, result.differing) == (10, 1)
    assert result.largest_difference == pytest.approx(0.5, rel=1e-5)


def test_images_of_another_guidance_are_caught(world: World, tmp_path: Path) -> None:
    stage, guided = world.stage(tmp_path / "one", reads=10), world.stage(tmp_path / "two", reads=10)
    request = world.sample_request(stage, check_images=10)
    run(request)
    run(world.sample_request(guided, guidance_scale=3.0))
    others = read_tensors(read_table(guided.samples(0)), "latent")
    committed_again(stage, 0, lambda _: others)
    result = run(request)
    assert (result.checked, result.differing) == (10, 10)
    assert result.largest_difference > 0.1


def test_what_is_not_a_number_is_a_difference_that_travels(world: World, stage: StageFolder, tmp_path: Path) -> None:
    committed_again(stage, 0, shifted(slice(4, 5), float("nan")))
    result = run(world.sample_request(stage, num_inference_steps=4, check_images=24))
    assert (result.checked, result.differing) == (24, 1)
    (tmp_path / "result.json").write_bytes(to_json(result))
    assert from_json(SampleResult, tmp_path / "result.json") == result


def test_a_damaged_shard_is_made_again_before_it_is_checked(world: World, stage: StageFolder) -> None:
    path = stage.samples(0)
    data = path.read_bytes()
    path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    result = run(world.sample_request(stage, num_inference_steps=4, check_images=5))
    assert (result.made, result.images) == ((0,), 24)
    assert found(result) == (5, 0, 0.0)
    assert path.read_bytes() == data


def test_a_shard_of_another_class_of_bits_is_named(world: World, stage: StageFolder) -> None:
    committed_again(stage, 0, lambda latents: latents, device="cpu of another kind", torch="1.0", host="elsewhere")
    result = run(world.sample_request(stage, num_inference_steps=4, check_images=2))
    assert found(result) == (2, 0, 0.0)
    (note,) = result.notes
    assert note.startswith("shard 0 was made where bits are others (device: cpu of another kind -> cpu")
    assert "torch: 1.0 -> " in note
    assert "host" not in note


def test_a_shard_with_rows_of_another_plan_is_one_clear_line(world: World, shards: StageFolder) -> None:
    manifest, other = read_manifest(shards.samples(2)), read_table(shards.samples(0))
    assert manifest is not None
    discard(shards.samples(2))
    commit(
        shards.samples(2), lambda target: write_table(target, other), kind="samples", digest=content_digest,
        identity=manifest.identity,
    )  # fmt: skip
    with pytest.raises(
        ArtifactError, match=r"shard-00002\.parquet: rows are not those of the plan; delete it"
    ) as error:
        run(world.sample_request(shards, [2], check_images=1))
    assert "\n" not in str(error.value)


def test_progress_counts_what_is_made_and_what_is_checked(world: World, sampled: StageFolder, tmp_path: Path) -> None:
    stage = copy_stage(sampled, tmp_path)
    stage.samples(0).unlink()
    heard: list[tuple[int, int]] = []
    run(
        world.sample_request(stage, num_inference_steps=4, check_images=10),
        progress=lambda done, total, note="": heard.append((done, total)),
    )
    assert heard == [(8, 34), (16, 34), (24, 34), (32, 34), (34, 34)]
