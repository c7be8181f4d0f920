"""Fills the shared cache of real pictures with what it lacks, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spin.core.environment import bit_class
from spin.core.layout import RealCache
from spin.core.schema import content_digest
from spin.prepare.held_out import write_held_out
from spin.prepare.keeping import keep
from spin.prepare.picture_size import TEXT_BATCH, picture_batch
from spin.prepare.request import PrepareRequest
from spin.prepare.rows import TargetData

Progress = Callable[[int, int], None]


def fill(
    cache: RealCache, data: TargetData, *, request: PrepareRequest, size: int, digest: str, progress: Progress
) -> int:
    """Make what does not stand whole; the number of pictures that went through the VAE."""
    make = partial(keep, digest=content_digest, identity={"data": digest, "model": request.base_digest})
    make(cache.held_out_images, partial(write_held_out, data=data, size=size), kind="held-out")
    make(
        cache.text,
        partial(_write_text, data=data, request=request),
        kind="text",
        environment=_environment(request, batch=TEXT_BATCH, images=0),
    )
    made = make(
        cache.latents,
        partial(_write_latents, data=data, request=request, size=size, progress=progress),
        kind="latents",
        environment=_environment(request, batch=picture_batch(size), images=len(data.rows)),
    )
    return len(data.rows) if made else 0


def _write_text(path: Path, *, data: TargetData, request: PrepareRequest) -> None:
    from spin.prepare.encoding import write_text  # torch and diffusers take 4 s to import

    write_text(path, data, base=request.base, device=request.device, threads=request.threads)


def _write_latents(path: Path, *, data: TargetData, request: PrepareRequest, size: int, progress: Progress) -> None:
    from spin.prepare.encoding import write_latents

    write_latents(
        path, data, size=size, base=request.base, device=request.device, threads=request.threads, progress=progress
    )


def _environment(request: PrepareRequest, *, batch: int, images: int) -> Callable[[], dict[str, object]]:
    """Where, and how long from now on."""
    started = time.perf_counter()
    place = bit_class(device=request.device, dtype="float32", batch_size=batch, threads=request.threads)
    return lambda: {**place, "seconds": time.perf_counter() - started, "images": images}
