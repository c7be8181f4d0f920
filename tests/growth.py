"""Peak memory and time of a process of its own over many rows: `python -m tests.growth planning|pairs|... FOLDER`.

    python -m tests.growth all /tmp/growth     # writes 10 thousand and a million rows, and tells all four

The folders hold real files of the formats that the rooms read, with tiny pictures and latents; nothing is faked.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.environment import peak_bytes
from spin.core.layout import StageFolder
from spin.core.plan import identity_hash, prompt_hash, visits
from spin.core.schema import PROMPTS, content_digest, tensor_column, tensor_field, write_rows, write_table, writing
from spin.core.store import commit

SHAPE = (4, 8, 8)
MIB = 2**20


class Growth(NamedTuple):
    """From few rows to many, each in a process of its own."""

    mib: float  # of the peak
    seconds: float  # that the many took


def growth_of(work: str, few: Path, many: Path) -> Growth:
    (_, least), (seconds, most) = (_worked(work, folder) for folder in (few, many))
    return Growth((most - least) / MIB, seconds)


def _worked(work: str, folder: Path) -> tuple[float, int]:
    """Seconds and peak bytes of the work in a process of its own; its imports are no part of the seconds."""
    command = [sys.executable, "-m", "tests.growth", work, str(folder)]
    seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:]
    return float(seconds), int(peak)


def write_pictures(folder: Path, rows: int) -> Path:
    """A Parquet file of one row group: 8 x 8 pixels of noise each, and a caption."""
    from PIL import Image

    def picture(pixels: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    folder.mkdir(parents=True)
    noise = np.random.default_rng(rows).integers(0, 255, (rows, 8, 8, 3), np.uint8)
    captions = [f"picture {number} of many, at night" for number in range(rows)]
    table = pa.table({"image": pa.array(map(picture, noise), pa.binary()), "text": captions})
    pq.write_table(table, folder / "data.parquet", row_group_size=rows)
    return folder


def write_stage(folder: Path, rows: int) -> Path:
    """Prompts, real latents, a plan and its shards, as the rooms write them."""
    from spin.core.planning import read_shard_rows, write_plan

    names = sorted(identity_hash(number)[:32] for number in range(rows))
    keys = ("sample_id", "caption", "prompt_hash", "split", "origin")
    table = ((name, f"caption {i}", prompt_hash(f"caption {i}"), "train", f"x:{i}") for i, name in enumerate(names))
    prompts = folder / "prompts.parquet"
    made = (dict(zip(keys, row, strict=True)) for row in table)
    commit(prompts, lambda path: write_rows(path, PROMPTS, made), kind="prompts", digest=content_digest)
    commit(folder / "real.parquet", lambda path: _write_latents(path, names), kind="latents")
    stage = StageFolder(folder / "run" / "iteration-01")
    plan = write_plan(
        stage, prompts=prompts, reads=rows, draws=1, shard_size=1024, batch_size=64, run_seed=0, config_hash="c",
        code_version="1", parent_digest="p",
    )  # fmt: skip
    for shard in range(plan.shards):
        drawn = pa.Table.from_pylist(read_shard_rows(stage, shard)).select(["position", "sample_id", "draw"])
        field = tensor_field("latent", SHAPE, "float32")
        drawn = drawn.append_column(field, tensor_column(_noise(len(drawn), shard)))
        commit(stage.samples(shard), lambda path, drawn=drawn: write_table(path, drawn), kind="samples")
    return folder


def _write_latents(path: Path, names: list[str]) -> None:
    columns = [tensor_field(name, SHAPE, "float32") for name in ("latent_mean", "latent_log_variance")]
    schema = pa.schema([pa.field("sample_id", pa.string()), *columns])
    with pq.ParquetWriter(path, schema, use_dictionary=False, **writing(schema)) as writer:
        for start in range(0, len(names), 1024):
            some = names[start : start + 1024]
            tensors = [tensor_column(_noise(len(some), start + part)) for part in (0, 1)]
            writer.write_table(pa.Table.from_arrays([pa.array(some), *tensors], schema=schema))


def _noise(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, *SHAPE)).astype(np.float32)


def judge(folder: Path) -> None:
    """All of the prepare room but its networks: judge, split, write the prompts, read the pictures again."""
    from spin.prepare.held_out import write_held_out
    from spin.prepare.own_data import read_own_data

    data = read_own_data(
        folder / "data.parquet", source="parquet", image_column="image", caption_column="text", train_rows=None,
        held_out_share=0.1, max_image_pixels=100,
    )  # fmt: skip
    assert len(data.digest(8)) == 64
    write_rows(folder / "prompts.parquet", PROMPTS, (row.as_prompt(32) for row in data.rows))
    content_digest(folder / "prompts.parquet")
    write_held_out(folder / "held-out.parquet", data, size=8)
    assert sum(1 for _ in data.pictures(8, {"train"})) > 0.85 * len(data.rows)


def read_batches_of_pairs(folder: Path) -> None:
    """What training reads of a stage: an epoch's order, and 200 batches of it."""
    from spin.diffusion.noise import training_draws
    from spin.train.pairs import read_pairs

    stage = StageFolder(folder / "run" / "iteration-01")
    pairs = read_pairs(folder / "prompts.parquet", folder / "real.parquet", samples=stage, scaling=1.0, shift=0.0)
    rows = len(pairs.sample_ids)
    order = visits(rows=rows, count=rows, draws=1, run_seed=0, stage=stage.name)
    for _ in range(min(200, rows // 32)):
        batch = list(islice(order, 32))
        named = [(pairs.sample_ids[visit.row], visit.visit) for visit in batch]
        draws = training_draws(
            named, run_seed=0, stage=stage.name, shape=SHAPE, timesteps=1000, caption_dropout=0.0, flip=False
        )
        real = pairs.real_latents(batch, draws, sampled=True)
        assert real.shape == pairs.generated_latents(batch, draws, sampled=True).shape
        assert len({pairs.prompt_hashes[visit.row] for visit in batch}) == 32


def plan_again(folder: Path) -> None:
    """A plan that reads every row once."""
    from spin.core.planning import count_train_rows, read_plan, write_plan

    prompts, stage = folder / "prompts.parquet", StageFolder(folder / f"planned-{os.getpid()}" / "iteration-01")
    rows = count_train_rows(prompts)
    plan = write_plan(
        stage, prompts=prompts, reads=rows, draws=1, shard_size=512, batch_size=64, run_seed=0, config_hash="c",
        code_version="1", parent_digest="p",
    )  # fmt: skip
    assert plan.images == rows
    assert read_plan(stage) == plan


def evaluate(folder: Path) -> None:
    """All of an evaluation but its networks, on every held-out row: prompts, what is missing, real pictures."""
    from spin.evaluate.asked import pictures_of, read_prompts, real_pictures
    from spin.evaluate.request import EvaluateRequest
    from spin.evaluate.shards import missing_shards, picture_count, prompts_in_shard

    request = EvaluateRequest(
        runs_root=folder, subject=None, subject_digest="data", benchmark="test", prompts=None, real=folder,
        data_digest="d", max_prompts=None, protocol="single", images_per_prompt=1, diversity_prompts=0,
        diversity_images=1, scheduler="dpm", guidance_scale=1.0, num_inference_steps=1, seed=0, batch_size=8,
        shard_size=64, shards=None, finish=True, judges="miniature", scorers=("aesthetic",), scorers_folder=None,
        hps_version="v2.0", hps_antialias=False, scorer_dtype="float32", max_bad_share=0.1, denoising_draws=1,
        device="cpu", dtype="float32", threads=1,
    )  # fmt: skip
    prompts, missing = read_prompts(request), missing_shards(request)
    assert picture_count(request, missing) == len(pictures_of(prompts)) == len(prompts)
    for shard in missing[:20]:
        size = prompts_in_shard(request)
        assert all(real_pictures(request, prompts[shard * size : (shard + 1) * size]))


def write_held_out_rows(folder: Path, rows: int) -> Path:
    """The held-out tenth of `rows` rows, as the prepare room keeps it; pictures of a few bytes."""
    from spin.core.schema import IMAGE_TYPE

    schema = pa.schema([*((name, pa.string()) for name in ("sample_id", "caption", "split")), ("image", IMAGE_TYPE)])
    made = (
        {"sample_id": identity_hash(number)[:32], "caption": f"picture {number} of many, at night", "split": "test",
         "image": {"bytes": b"png", "path": None}}
        for number in range(rows // 10)
    )  # fmt: skip
    artifact = folder / "held-out.parquet"
    commit(artifact, lambda path: write_rows(path, schema, made), kind="held-out", digest=content_digest)
    return folder


WORK: dict[str, Callable[[Path], None]] = {
    "planning": plan_again, "pairs": read_batches_of_pairs, "judging": judge, "evaluating": evaluate,
}  # fmt: skip
WRITTEN: dict[str, Callable[[Path, int], Path]] = {
    "planning": write_stage, "pairs": write_stage, "judging": write_pictures, "evaluating": write_held_out_rows,
}  # fmt: skip


def tell_all(folder: Path, few: int = 10_000, many: int = 1_000_000) -> None:
    """A line for each kind of work; what is written for one serves the next that reads the same."""
    for work, write in WRITTEN.items():
        places = [folder / write.__name__ / str(rows) for rows in (few, many)]
        for place, rows in zip(places, (few, many), strict=True):
            if not place.exists():
                write(place, rows)
        mib, seconds = growth_of(work, *places)
        print(f"{work:<12} {mib:+6.0f} MiB from {few} to {many} rows; these took {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "all":
        tell_all(Path(sys.argv[2]))
    else:
        start = time.perf_counter()
        WORK[sys.argv[1]](Path(sys.argv[2]))
        print(time.perf_counter() - start, peak_bytes())
