"""Real + generated + checkpoint k -> checkpoint k+1. The stage stands where its logs and its checkpoint do."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from spin.core.environment import bit_class
from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder
from spin.core.planning import read_plan
from spin.core.progress import Progress, silent
from spin.core.schema import HELD_OUT_LOG, TIMING, TRAINING_LOG, add_digests, write_rows
from spin.core.store import Manifest, commit, read_manifest, stands
from spin.diffusion.checkpoint import model_digest, write_checkpoint
from spin.train.health import health
from spin.train.loop import Loop
from spin.train.request import TrainRequest, TrainResult


def run(request: TrainRequest, *, progress: Progress = silent) -> TrainResult:
    """Train one stage to its last step, from the newest state if there is one."""
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    stage, settings = StageFolder(request.stage), request.settings
    checkpoint = stage.checkpoint(settings.steps)
    identity = training_identity(request)
    if all(stands(path, identity) for path in (stage.training_log, stage.held_out_log, checkpoint)):
        digest = _manifest(checkpoint).content_digest
        return TrainResult(checkpoint, digest, 0, 0, time.perf_counter() - start, ())
    loop = Loop(request, identity)
    steps = settings.steps - loop.done.step
    for _ in range(steps):
        loop.advance()
        progress(loop.done.step, settings.steps, loop.note())
    _finish(loop, checkpoint)
    return TrainResult(
        checkpoint=checkpoint,
        digest=_manifest(checkpoint).content_digest,
        steps=steps,
        pairs=steps * settings.batch_size,
        seconds=time.perf_counter() - start,
        health=health(loop.done.log, loop.done.held_out),
    )


def training_identity(request: TrainRequest) -> dict[str, Any]:
    """What the trained weights are a function of, besides the class of equal bits."""
    settings = dataclasses.asdict(request.settings)
    for cadence in ("state_every_steps", "held_out_every_steps"):
        settings.pop(cadence)
    identity = {
        "settings": settings,
        "start": request.start_digest,
        "prompts": _manifest(request.prompts).content_digest,
        "real": _manifest(request.real).content_digest,
        "text": _manifest(request.text).content_digest,
        "run_seed": request.run_seed,
        "draws": request.draws,
        "dtype": request.dtype,
    }
    if request.settings.objective == "spin":
        stage = StageFolder(request.stage)
        shards = range(read_plan(stage).shards)
        identity["samples"] = add_digests(_manifest(stage.samples(shard)).content_digest for shard in shards)
    return identity


def _finish(loop: Loop, checkpoint: Path) -> None:
    """Commit the logs, then the checkpoint: where it stands, all of the stage stands."""
    stage, tensors = loop.stage, loop.networks.tensors
    if tensors.average is not None:
        tensors.average.copy_to(tensors.unet.parameters())
    _commit_log(loop, stage.training_log, TRAINING_LOG, loop.done.log)
    _commit_log(loop, stage.held_out_log, HELD_OUT_LOG, loop.done.held_out)
    _commit_log(loop, stage.timing, TIMING, loop.done.timing)
    commit(
        checkpoint,
        lambda folder: write_checkpoint(folder, base=loop.request.start, unet=tensors.unet),
        kind="checkpoint",
        digest=model_digest,
        identity=loop.identity,
        environment=lambda: _environment(loop),
    )


def _environment(loop: Loop) -> dict[str, Any]:
    request, settings = loop.request, loop.settings
    place = bit_class(
        device=request.device, dtype=request.dtype, batch_size=settings.micro_batch_size, threads=request.threads
    )
    images = settings.steps * settings.batch_size
    return {**place, "steps": settings.steps, "images": images, "seconds": loop.done.seconds}


def _commit_log(loop: Loop, path: Path, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    commit(path, lambda target: write_rows(target, schema, rows), kind=path.stem, identity=loop.identity)


def _manifest(artifact: Path) -> Manifest:
    manifest = read_manifest(artifact)
    if manifest is None:
        raise ArtifactError("is not there, or was never finished", where=str(artifact), fix="run again")
    return manifest
