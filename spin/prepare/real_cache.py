"""Fills the shared cache of real pictures with what it lacks, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any, Final

from spin.core.environment import bit_class
from spin.core.layout import RealCache, mirrored_path
from spin.core.schema import content_digest
from spin.miniature.dataset import SPLITS
from spin.miniature.world import Split
from spin.prepare.held_out import write_held_out
from spin.prepare.keeping import keep
from spin.prepare.passes import TEXT_BATCH, picture_batch
from spin.prepare.request import PrepareRequest
from spin.prepare.rows import Pictures, Pixels, TargetData

Progress = Callable[[int, int], None]

_TRAIN: Final[frozenset[Split]] = frozenset({"train"})


def fill(
    cache: RealCache, data: TargetData, *, request: PrepareRequest, size: int, digest: str, progress: Progress
) -> int:
    """Make what does not stand whole; the number of pictures that went through the VAE."""
    identity: dict[str, Any] = {"data": digest, "model": request.base_digest}
    make = partial(keep, digest=content_digest, identity=identity)
    make(cache.held_out_images, partial(write_held_out, data=data, size=size), kind="held-out")
    make(
        cache.text,
        partial(_write_text, data=data, request=request),
        kind="text",
        environment=_environment(request, batch=TEXT_BATCH, images=0),
    )
    encode = partial(_encode, data=data, request=request, size=size, progress=progress)
    sides = [(cache.latents, data.pictures, frozenset(SPLITS), "latents", identity)]
    if request.losers:
        assert data.losers is not None
        sides.append((cache.losers, data.losers, _TRAIN, "losers", {**identity, "losers": data.losers_digest()}))
    if request.flips:
        sides += [
            (mirrored_path(path), partial(_mirrored, read), _TRAIN, f"{kind}-mirrored", {**made_from, "mirrored": True})
            for path, read, _, kind, made_from in sides
        ]
    return sum(encode(path, read, splits, kind=kind, identity=made) for path, read, splits, kind, made in sides)


def _mirrored(read: Pictures, size: int, splits: Set[Split]) -> Iterator[tuple[int, Pixels]]:
    """The same pictures, left for right: held-out ones are never read so."""
    return ((number, picture[:, ::-1]) for number, picture in read(size, splits))


def _encode(
    artifact: Path,
    read: Pictures,
    splits: Set[Split],
    *,
    kind: str,
    identity: Mapping[str, Any],
    data: TargetData,
    request: PrepareRequest,
    size: int,
    progress: Progress,
) -> int:
    """Keep the posteriors of what `read` gives for the rows of `splits`; the pictures encoded by this call."""
    images = sum(row.split in splits for row in data.rows)

    def write(path: Path) -> None:
        from spin.prepare.encoding import write_latents  # torch and diffusers take 4 s to import

        write_latents(
            path, data.rows, read, splits=splits, size=size, in_buckets=data.buckets is not None, base=request.base,
            device=request.device, threads=request.threads, progress=progress,
        )  # fmt: skip

    environment = _environment(request, batch=picture_batch(size), images=images)
    made = keep(artifact, write, kind=kind, digest=content_digest, identity=identity, environment=environment)
    return images if made else 0


def _write_text(path: Path, *, data: TargetData, request: PrepareRequest) -> None:
    from spin.prepare.encoding import write_text

    write_text(path, data, base=request.base, device=request.device, threads=request.threads)


def _environment(request: PrepareRequest, *, batch: int, images: int) -> Callable[[], dict[str, object]]:
    """Where, and how long from now on."""
    started = time.perf_counter()
    place = bit_class(device=request.device, dtype="float32", batch_size=batch, threads=request.threads)
    return lambda: {**place, "seconds": time.perf_counter() - started, "images": images}
