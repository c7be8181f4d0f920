"""Plan + checkpoint k -> the opponent's images, shard by shard.

A shard that stands is never made again; one that is missing or damaged is. The bits of an image depend
on its seed and the batch shape, not on the split into shards.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from spin.core.environment import bit_class
from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder
from spin.core.plan import Plan, padded_batches
from spin.core.planning import read_plan, read_shard_rows
from spin.core.progress import Progress, silent
from spin.core.schema import IMAGE_TYPE, content_digest, image_schema, tensor_column, tensor_field, write_table
from spin.core.store import commit, stands
from spin.diffusion.pictures import encode_png
from spin.sample.opponent import Drawn, Opponent, resident_opponent
from spin.sample.request import SampleRequest, SampleResult


def run(request: SampleRequest, *, progress: Progress = silent) -> SampleResult:
    """Make the shards that are missing; `progress` hears of images done and to do."""
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    stage = StageFolder(request.stage)
    plan = read_plan(stage)
    _refuse_unknown_shards(request, plan, stage)
    identity = shard_identity(request, plan)
    missing = [shard for shard in request.shards if not stands(stage.samples(shard), identity)]
    if not missing:
        return SampleResult((), 0, time.perf_counter() - start)
    opponent = resident_opponent(request)
    total = sum(len(plan.shard_range(shard)) for shard in missing)
    done = 0
    for shard in missing:
        rows = read_shard_rows(stage, shard)

        def advance(images: int, before: int = done) -> None:
            progress(before + images, total)

        _make_shard(stage.samples(shard), rows, request, plan, opponent, advance)
        done += len(rows)
    return SampleResult(tuple(missing), done, time.perf_counter() - start, opponent.notes)


def shard_identity(request: SampleRequest, plan: Plan) -> dict[str, Any]:
    """What a shard's bytes are a function of, besides the class of equal bits."""
    return {
        "plan": plan.plan_hash,
        "opponent": request.opponent_digest,
        "guidance_scale": request.guidance_scale,
        "num_inference_steps": request.num_inference_steps,
        "loser_source": request.loser_source,
        "store_images": request.store_images,
        "dtype": request.dtype,
    }


def _refuse_unknown_shards(request: SampleRequest, plan: Plan, stage: StageFolder) -> None:
    unknown = [shard for shard in request.shards if not 0 <= shard < plan.shards]
    if unknown:
        raise ArtifactError(
            f"no shard {unknown[0]}", where=str(stage.plan), fix=f"name a shard from 0 to {plan.shards - 1}"
        )


def _make_shard(
    path: Path,
    rows: list[dict[str, Any]],
    request: SampleRequest,
    plan: Plan,
    opponent: Opponent,
    advance: Callable[[int], None],
) -> None:
    start = time.perf_counter()
    batches: list[Drawn] = []
    for batch in padded_batches(range(len(rows)), plan.batch_size):
        batches.append(opponent.draw([rows[i] for i in batch], request))
        advance(min(len(batches) * plan.batch_size, len(rows)))
    table = _table(rows, batches)
    commit(
        path,
        lambda target: write_table(target, table),
        kind="samples",
        digest=content_digest,
        identity=shard_identity(request, plan),
        environment=lambda: {
            **bit_class(
                device=request.device, dtype=request.dtype, batch_size=plan.batch_size, threads=request.threads,
                compiled=request.compile and not opponent.notes,
            ),
            "images": len(rows),
            "seconds": time.perf_counter() - start,
            "notes": list(opponent.notes),
        },
    )  # fmt: skip


def _table(rows: list[dict[str, Any]], batches: Sequence[Drawn]) -> pa.Table:
    """One row per image: straight latents, or the posterior of the image's round trip through 8 bits."""
    fields: list[pa.Field] = [
        pa.field("position", pa.int64()),
        pa.field("sample_id", pa.string()),
        pa.field("draw", pa.int32()),
        pa.field("seed", pa.uint64()),
    ]
    columns: list[Any] = [pa.array([row[f.name] for row in rows], f.type) for f in fields]
    latents, pictures, mean, log_variance = (_join(batches, f.name, len(rows)) for f in dataclasses.fields(Drawn))
    tensors = {"latent": latents, "latent_mean": mean, "latent_log_variance": log_variance}
    for name, values in tensors.items():
        if values is None or (name == "latent" and mean is not None):
            continue
        fields.append(tensor_field(name, values.shape[1:], "float32"))
        columns.append(tensor_column(values.numpy()))
    if pictures is None:
        return pa.table(columns, schema=pa.schema(fields))
    fields.append(pa.field("image", IMAGE_TYPE))
    columns.append(pa.array([{"bytes": encode_png(p), "path": None} for p in pictures.numpy()], IMAGE_TYPE))
    return pa.table(columns, schema=image_schema(fields, ["image"]))


def _join(batches: Sequence[Drawn], name: str, count: int) -> Tensor | None:
    """Rows of all batches without the padding, on the CPU."""
    parts = [getattr(batch, name) for batch in batches]
    return None if parts[0] is None else torch.cat(parts)[:count].cpu()
