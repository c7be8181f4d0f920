"""Pictures of several shapes from the folder to a trained model: each is encoded, drawn and trained in its bucket."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image

from spin.core.buckets import Size, unpacked
from spin.core.layout import StageFolder
from spin.core.plan import image_seed
from spin.core.planning import read_shard_rows
from spin.core.schema import add_digests, content_digest, read_table, read_tensors, tensor_column, write_table
from spin.core.store import commit, discard, read_manifest
from spin.diffusion.solvers import load_solver
from spin.prepare.decoding import fit
from spin.sample.room import run as sample
from spin.train.batches import BatchShape
from spin.train.room import run as train
from tests.oblong import SHAPES, write_oblong
from tests.train.test_processes import launch
from tests.world import World, copy_stage, make_world

BUCKETS = {"aspect_ratio": "buckets", "bucket_step": 16, "bucket_ratio": 2.0}
OF_SHAPE = {(64, 64): (64, 64), (60, 100): (48, 80), (100, 60): (80, 48), (40, 200): (48, 80)}


@pytest.fixture(scope="module", params=["sd-v", "sdxl", "sd3"])
def oblong(
    request: pytest.FixtureRequest, folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> World:
    """A world of oblong pictures with losers and flips, by a tiny model of a family."""
    root = tmp_path_factory.mktemp(request.param)
    return make_world(
        root / "runs", folder_of(request.param), source="imagefolder", path=write_oblong(root / "own"), rows=None,
        held_out_share=0.25, loser_column="loser", **BUCKETS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def drawn(oblong: World, tmp_path_factory: pytest.TempPathFactory) -> StageFolder:
    """Two rounds of its train rows, drawn in one shard."""
    stage = oblong.stage(tmp_path_factory.mktemp("stage"), shard_size=64, reads=40)
    sample(oblong.sample_request(stage))
    return stage


def number_of(row: dict[str, Any]) -> int:
    """Of the row's picture among those that `write_oblong` writes."""
    return int(row["origin"].rpartition(":")[2]) - 1


def sizes_of(table: pa.Table) -> np.ndarray:
    return np.stack([table["latent_height"].to_numpy(), table["latent_width"].to_numpy()], axis=1).astype(np.int16)


def latents_of(table: pa.Table, column: str, row: int) -> np.ndarray:
    """(C, h, w) of a stored row."""
    return unpacked(read_tensors(table, column)[row : row + 1], sizes_of(table)[row : row + 1])[0]


def test_train_rows_take_the_nearest_bucket_and_held_out_ones_the_square(oblong: World) -> None:
    rows = read_table(oblong.prompts).to_pylist()
    for row in rows:
        wanted = OF_SHAPE[SHAPES[number_of(row) % 4]] if row["split"] == "train" else (64, 64)
        assert (row["height"], row["width"]) == wanted
    assert {(row["height"], row["width"]) for row in rows if row["split"] == "train"} == set(OF_SHAPE.values())
    manifest = read_manifest(oblong.prompts)
    assert manifest is not None
    counts = Counter(f"{row['height']} x {row['width']}" for row in rows if row["split"] == "train")
    assert manifest.environment["counts"]["buckets"] == dict(counts)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("side", ["winners", "losers"])
def test_latents_are_those_of_the_picture_in_its_bucket(oblong: World, side: str, mirrored: bool) -> None:
    files = {
        ("winners", False): oblong.cache.latents, ("losers", False): oblong.cache.losers,
        ("winners", True): oblong.cache.latents.with_name("real-mirrored.parquet"),
        ("losers", True): oblong.cache.losers.with_name("losers-mirrored.parquet"),
    }  # fmt: skip
    table, vae = read_table(files[side, mirrored]), AutoencoderKL.from_pretrained(oblong.base, subfolder="vae")
    known = {row["sample_id"]: row for row in read_table(oblong.prompts).to_pylist()}
    own = oblong.root.parent / "own"
    assert read_tensors(table, "latent_mean").shape[1:] == (4, 64)
    for place, name in enumerate(table["sample_id"].to_pylist()):
        row = known[name]
        file = own / f"{number_of(row):03d}{'-lost' if side == 'losers' else ''}.png"
        pixels = fit(Image.open(io.BytesIO(file.read_bytes())), Size(row["height"], row["width"]))
        pixels = pixels[:, ::-1] if mirrored else pixels
        images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            wanted = vae.encode(images).latent_dist
        found = latents_of(table, "latent_mean", place)
        assert found.shape == (4, row["height"] // 8, row["width"] // 8)
        np.testing.assert_allclose(found, wanted.mean[0], atol=1e-5)
        np.testing.assert_allclose(latents_of(table, "latent_log_variance", place), wanted.logvar[0], atol=1e-5)


def test_an_image_is_what_the_familys_own_pipeline_draws_at_that_size(oblong: World, drawn: StageFolder) -> None:
    table, known = (read_table(path) for path in (drawn.samples(0), oblong.prompts))
    captions = dict(zip(known["sample_id"].to_pylist(), known["caption"].to_pylist(), strict=True))
    pipeline = DiffusionPipeline.from_pretrained(oblong.base)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = load_solver(oblong.base, "dpmsolver++")
    met = set()
    for place, row in enumerate(table.select(["sample_id", "draw", "seed"]).to_pylist()):
        found = latents_of(table, "latent", place)
        if found.shape in met:
            continue
        met.add(found.shape)
        assert row["seed"] == image_seed(0, "iteration-01", row["sample_id"], row["draw"])
        wanted = pipeline(
            captions[row["sample_id"]], height=found.shape[1] * 8, width=found.shape[2] * 8, guidance_scale=1.0,
            num_inference_steps=2, generator=torch.Generator().manual_seed(row["seed"]), output_type="latent",
        ).images  # fmt: skip
        np.testing.assert_allclose(found, wanted[0].float(), atol=1e-4, rtol=1e-4)
    assert met == {(4, 8, 8), (4, 6, 10), (4, 10, 6)}


def test_no_bit_depends_on_the_split_into_shards(oblong: World, drawn: StageFolder, tmp_path: Path) -> None:
    split = oblong.stage(tmp_path, shard_size=5, reads=40)
    shards = range(-(-len(read_table(drawn.samples(0))) // 5))
    sample(oblong.sample_request(split, shards))
    one = read_manifest(drawn.samples(0))
    parts = [read_manifest(split.samples(shard)) for shard in shards]
    assert one is not None
    assert add_digests([part.content_digest for part in parts if part is not None]) == one.content_digest


def test_images_drawn_again_are_those_that_stand(oblong: World, drawn: StageFolder) -> None:
    found = sample(oblong.sample_request(drawn, check_images=12))
    assert (found.checked, found.differing, found.largest_difference) == (12, 0, 0.0)


def test_round_trips_and_stored_pictures_have_the_size_of_their_bucket(oblong: World, tmp_path: Path) -> None:
    stage = oblong.stage(tmp_path, shard_size=64, reads=12)
    asked = {"loser_source": "roundtrip", "store_mirrored": True, "store_images": True}
    sample(oblong.sample_request(stage, **asked))
    table = read_table(stage.samples(0))
    for place, picture in enumerate(table["image"].to_pylist()):
        height, width = sizes_of(table)[place] * 8
        assert Image.open(io.BytesIO(picture["bytes"])).size == (width, height)
        for column in ("latent_mean", "latent_log_variance_mirrored"):
            assert np.isfinite(latents_of(table, column, place)).all()
    settings = {"steps": 1, "flip": True, "sft_weight": 0.0}
    assert train(oblong.train_request(stage, settings=settings)).steps == 1


@pytest.mark.parametrize("objective", ["spin", "dpo", "sft"])
def test_every_objective_trains_and_a_pass_holds_one_bucket(
    oblong: World, drawn: StageFolder, objective: str, tmp_path: Path
) -> None:
    losses = []
    for micro in (2, 8):
        stage = copy_stage(drawn, tmp_path / str(micro))
        settings = {"steps": 2, "micro_batch_size": micro, "sft_weight": 0.0, "beta": 1.0, "warmup_steps": 0}
        settings |= {"objective": "sft", "beta": 0.0} if objective == "sft" else {}
        losers = oblong.cache.losers if objective == "dpo" else None
        train(oblong.train_request(stage, settings=settings, losers=losers))
        rows = read_table(stage.training_log).to_pylist()
        assert rows[0]["gradient_norm"] > 0
        losses.append([row["loss"] for row in rows])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "optimizer", "full"])
def test_two_processes_train_as_one_whatever_their_passes(
    oblong: World, drawn: StageFolder, sharding: str, tmp_path: Path
) -> None:
    """Shares of 4 come to 1 to 3 passes by their sizes; divided weights want as many of each process."""
    rows, two = read_shard_rows(drawn, 0), BatchShape(processes=2, share=4, micro_batch_size=4)
    steps = [two.passes(rows[start : start + 8], lambda row: (row["height"], row["width"])) for start in (0, 8, 16)]
    assert any(passes.surplus(process) for passes in steps for process in (0, 1))
    logs = []
    for count, divided in ((1, "none"), (2, sharding)):
        stage = copy_stage(drawn, tmp_path / str(count))
        settings = {"steps": 4, "micro_batch_size": 4, "sft_weight": 0.0, "beta": 1.0, "lr": 1e-4}
        request = oblong.train_request(stage, settings=settings, processes=count, sharding=divided)
        assert launch(request).answer.steps == 4
        logs.append(read_table(stage.training_log).to_pylist())
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_a_broken_row_is_named_with_its_pass(oblong: World, drawn: StageFolder, sharding: str, tmp_path: Path) -> None:
    """The first row that is read of the second share."""
    stage = copy_stage(drawn, tmp_path)
    row = read_shard_rows(drawn, 0)[4]
    table = read_table(stage.samples(0))
    place = table["sample_id"].to_pylist().index(row["sample_id"])
    values = read_tensors(table, "latent").copy()
    values[place, 0, 0] = np.nan
    column = table.column_names.index("latent")
    broken = table.set_column(column, table.schema.field("latent"), tensor_column(values))
    discard(stage.samples(0))
    commit(stage.samples(0), lambda path: write_table(path, broken), kind="samples", digest=content_digest)
    settings = {"steps": 1, "micro_batch_size": 2, "sft_weight": 0.0}
    ended = launch(oblong.train_request(stage, settings=settings, processes=2, sharding=sharding))
    assert ended.code != 0
    told = ended.stderr + "".join(map(str, ended.lines))
    assert f"samples {row['sample_id']}" in told
    assert "of process 1" in told
    assert "their generated latents hold NaN or infinity" in told


def test_plan_rows_know_their_size(oblong: World, drawn: StageFolder) -> None:
    known = {row["sample_id"]: (row["height"], row["width"]) for row in read_table(oblong.prompts).to_pylist()}
    table = read_table(drawn.plan_rows)
    assert {(r["sample_id"], r["height"], r["width"]) for r in table.to_pylist()} <= {(k, *v) for k, v in known.items()}
    assert pc.count_distinct(table["height"]).as_py() == 3


def test_the_reverse_form_meets_states_of_every_size(world: World, tmp_path: Path) -> None:
    """The packaged miniature predicts the noise, at 4 x 4; 3 x 5 latents are no even halves, and pass too."""
    own = write_oblong(tmp_path / "own")
    asked = {**BUCKETS, "bucket_step": 8, "losers": False, "flips": False, "held_out_share": 0.25, "rows": None}
    small = make_world(tmp_path / "runs", world.base, source="imagefolder", path=own, **asked)
    stage = small.stage(tmp_path, shard_size=64, reads=16)
    sample(small.sample_request(stage, store_trajectory=True))
    table = read_table(stage.samples(0))
    assert {tuple(size) for size in sizes_of(table)} == {(4, 4), (3, 5), (5, 3)}
    assert read_tensors(table, "trajectory").shape[1:] == (2, 16, 16)
    train(small.train_request(stage, settings={"steps": 2, "trajectory": "reverse"}))
    rows = read_table(stage.training_log).to_pylist()
    assert rows[0]["loss"] > 0
    assert rows[1]["accuracy"] is not None
