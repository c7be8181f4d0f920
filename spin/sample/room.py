"""Plan + checkpoint k -> the opponent's images, shard by shard.

A shard that stands is never made again; one that is missing or damaged is. The bits of an image depend
on its seed and the batch shape, not on the split into shards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from spin.core.environment import bit_class
from spin.core.layout import StageFolder
from spin.core.plan import Plan, padded_batches
from spin.core.planning import read_plan, read_shard_rows
from spin.core.progress import Progress, silent
from spin.core.schema import content_digest, image_schema, tensor_column, tensor_field, write_table
from spin.core.store import commit, discard, is_intact, is_whole
from spin.diffusion.checkpoint import load_solver, load_unet, load_vae
from spin.diffusion.compiling import CompiledUnet
from spin.diffusion.noise import initial_noise
from spin.diffusion.pictures import encode_png
from spin.diffusion.sampler import decode_latents, encode_images, sample_latents
from spin.diffusion.text import TextEmbeddings
from spin.sample.request import SampleRequest, SampleResult


def run(request: SampleRequest, *, progress: Progress = silent) -> SampleResult:
    """Make the shards that are missing; `progress` hears of images done and to do."""
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    stage = StageFolder(request.stage)
    plan = read_plan(stage)
    missing = [shard for shard in request.shards if not _stands(stage, shard, request, plan)]
    if not missing:
        return SampleResult((), 0, time.perf_counter() - start)
    opponent = _Opponent.load(request)
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
        "dtype": request.dtype,
    }


def _stands(stage: StageFolder, shard: int, request: SampleRequest, plan: Plan) -> bool:
    path = stage.samples(shard)
    if not is_whole(path, identity=shard_identity(request, plan)):
        return False
    if is_intact(path):
        return True
    discard(path)
    return False


def _make_shard(
    path: Path,
    rows: list[dict[str, Any]],
    request: SampleRequest,
    plan: Plan,
    opponent: _Opponent,
    advance: Callable[[int], None],
) -> None:
    start = time.perf_counter()
    batches = []
    for batch in padded_batches(range(len(rows)), plan.batch_size):
        latents = opponent.draw([rows[i] for i in batch])
        batches.append(latents)
        advance(min(len(batches) * plan.batch_size, len(rows)))
    latents = torch.cat(batches)[: len(rows)]
    table = _table(rows, latents, request, opponent)
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


def _table(rows: list[dict[str, Any]], latents: Tensor, request: SampleRequest, opponent: _Opponent) -> pa.Table:
    """One row per image: straight latents, or the posterior of the image's round trip through 8 bits."""
    fields: list[pa.Field] = [
        pa.field("position", pa.int64()),
        pa.field("sample_id", pa.string()),
        pa.field("draw", pa.int32()),
        pa.field("seed", pa.uint64()),
    ]
    columns: list[Any] = [pa.array([row[f.name] for row in rows], f.type) for f in fields]
    shape = tuple(latents.shape[1:])
    if request.loser_source == "latents":
        tensors = {"latent": latents}
    else:
        tensors = dict(zip(("latent_mean", "latent_log_variance"), opponent.round_trip(latents), strict=True))
    for name, values in tensors.items():
        fields.append(tensor_field(name, shape, "float32"))
        columns.append(tensor_column(values.float().cpu().numpy().astype(np.float32)))
    if request.store_images:
        pictures = opponent.pictures(latents).numpy()
        fields.append(pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
        columns.append(pa.array([{"bytes": encode_png(p), "path": None} for p in pictures], fields[-1].type))
        return pa.table(columns, schema=image_schema(fields, ["image"]))
    return pa.table(columns, schema=pa.schema(fields))


@dataclass
class _Opponent:
    """The resident model: loaded once, whatever the number of shards."""

    unet: CompiledUnet
    solver: Any
    vae: Any
    text: TextEmbeddings
    request: SampleRequest

    @classmethod
    def load(cls, request: SampleRequest) -> _Opponent:
        unet = load_unet(request.opponent, device=request.device, dtype=request.dtype)
        wants_pictures = request.store_images or request.loser_source == "roundtrip"
        vae = load_vae(request.opponent, device=request.device, dtype=request.dtype) if wants_pictures else None
        text = TextEmbeddings.read(request.text, device=request.device, dtype=request.dtype)
        return cls(CompiledUnet(unet, enabled=request.compile), load_solver(request.opponent), vae, text, request)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.unet.notes

    def draw(self, rows: list[dict[str, Any]]) -> Tensor:
        settings = self.unet.config
        shape = (settings.in_channels, settings.sample_size, settings.sample_size)
        noise = initial_noise([row["seed"] for row in rows], shape)
        text = self.text.of([row["prompt_hash"] for row in rows])
        return sample_latents(
            self.unet,
            self.solver,
            noise=noise.to(text),
            text=text,
            unconditional=self.text.empty,
            guidance_scale=self.request.guidance_scale,
            num_inference_steps=self.request.num_inference_steps,
        ).float()

    def pictures(self, latents: Tensor) -> Tensor:
        return torch.cat([decode_latents(self.vae, part) for part in latents.split(self.request.batch_size)])

    def round_trip(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        parts = [encode_images(self.vae, p) for p in self.pictures(latents).split(self.request.batch_size)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([variance for _, variance in parts])
