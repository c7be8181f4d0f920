"""Real + generated + checkpoint k -> checkpoint k+1. The stage stands where its logs and its checkpoint do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import torch
from torch import nn

from spin.core.adapters import ADAPTER_FILE
from spin.core.environment import peak_bytes, reset_peak
from spin.core.layout import StageFolder
from spin.core.memory import explaining_shortage
from spin.core.progress import Progress, silent
from spin.core.schema import HELD_OUT_LOG, TIMING, TRAINING_LOG, write_rows
from spin.core.store import commit, stands
from spin.diffusion.adapter import as_diffusers, trained_adapter, write_weights
from spin.diffusion.attention import attending
from spin.diffusion.checkpoint import write_checkpoint
from spin.diffusion.digest import model_digest
from spin.diffusion.families.registry import family_of
from spin.diffusion.lora import merge_adapter
from spin.diffusion.policy import laid_out
from spin.train.arriving import arriving
from spin.train.batches import batch_shape
from spin.train.checking import check_steps
from spin.train.health import health
from spin.train.identity import identity_before_samples, kept_weights, manifest_of, training_stands
from spin.train.loop import Loop
from spin.train.networks import load_policy
from spin.train.processes import Processes, class_of, joined
from spin.train.reference import store_errors
from spin.train.request import TrainRequest, TrainResult
from spin.train.sharding import held_bytes, own, whole
from spin.train.trackers import following

_MUCH_STALLED: Final = 0.05  # share of a stage's time that is worth a line


def run(request: TrainRequest, *, progress: Progress = silent) -> TrainResult:
    """Train one stage to its last step, from the newest state if there is one.

    Under torchrun every process calls this with the same request; all but the durations of the answers are equal.
    """
    batch_shape(request)  # refused before anything is read
    with (
        explaining_shortage(request.memory_knobs, device=request.device),
        attending(request.attention, device=request.device, dtype=request.dtype),
        joined(request.processes, device=request.device) as processes,
    ):
        return (_check if request.check_steps else _run)(request, processes, progress)


def _run(request: TrainRequest, processes: Processes, progress: Progress) -> TrainResult:
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    stage, settings = StageFolder(request.stage), request.settings
    checkpoint = stage.checkpoint(settings.steps)
    done = 0
    found = arriving(request, processes, lambda note: progress(done, settings.steps, note))
    if found is None and processes.once(lambda: training_stands(request, check=stands)):
        digest = manifest_of(checkpoint).content_digest
        return TrainResult(checkpoint, digest, 0, 0, time.perf_counter() - start, ())
    store_errors(request, processes, progress=progress)
    _reset_peak(request)
    with Loop(request, processes, found) as loop, following(request, _followed(loop), processes) as trackers:
        if settings.compile:
            _reset_peak(request)  # the pass that was run eager, for comparison, is no part of what a training takes
        steps, done = settings.steps - loop.done.step, loop.done.step
        trackers.tell(loop.done)
        for _ in range(steps):
            loop.advance()
            trackers.tell(loop.done)
            done = loop.done.step
            progress(done, settings.steps, loop.note())
    if found is not None:
        found.open_all(loop.step_of.reader.pairs)
    network = _trained_network(loop, processes)
    processes.once(lambda: _finish(loop, network, checkpoint))
    return TrainResult(
        checkpoint=checkpoint,
        digest=manifest_of(checkpoint).content_digest,
        steps=steps,
        pairs=steps * settings.batch_size,
        seconds=time.perf_counter() - start,
        health=(*health(loop.done.log, loop.done.held_out), *_stalled(loop), *loop.networks.notes, *trackers.notes),
    )


def _stalled(loop: Loop) -> list[str]:
    """That the device waited for what it reads, where that cost a worthwhile share of the time.

    Waiting for images that were still being drawn is no fault of the disk.
    """
    drawn = 0.0 if loop.arriving is None else loop.arriving.standing.seconds
    share = (loop.done.stall_seconds - drawn) / loop.done.seconds if loop.done.seconds else 0.0
    if share < _MUCH_STALLED:
        return []
    return [f"{share:.0%} of the time went by waiting for the latents and texts of a pass: the disk is slow, or busy"]


def _check(request: TrainRequest, processes: Processes, progress: Progress) -> TrainResult:
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    checkpoint = StageFolder(request.stage).checkpoint(request.settings.steps)
    found = check_steps(request, processes, progress)
    return TrainResult(
        checkpoint, manifest_of(checkpoint).content_digest, 0, 0, time.perf_counter() - start, (),
        found.steps, found.differing, found.largest_difference, found.notes,
    )  # fmt: skip


def _followed(loop: Loop) -> Mapping[str, Any]:
    """What trackers know a training by: where images may still be drawn, by what those are made from."""
    awaited = loop.request.awaited
    if awaited is None:
        return loop.identity
    return {**identity_before_samples(loop.request), "samples": awaited.identity}


def _trained_network(loop: Loop, processes: Processes) -> nn.Module:
    """The network with what is to be saved, the average where there is one; whole, where it was divided."""
    tensors, request = loop.networks.tensors, loop.request
    if tensors.average is not None:
        tensors.average.copy_to(loop.networks.update.parameters)
    if kept_weights(request) == "whole":
        network: nn.Module = laid_out(tensors.denoiser, torch.contiguous_format)  # as files have it
        return network
    keep = processes.rank == 0
    network = load_policy(request, "cpu") if keep else nn.Module()
    target = dict(network.named_parameters())
    for name, parameter in tensors.trained.items():
        values = whole(parameter.detach(), keep=keep)
        if keep:
            target[name].data.copy_(values)
    return network


def _finish(loop: Loop, network: nn.Module, checkpoint: Path) -> None:
    """Commit the logs, then the checkpoint: where it stands, all of the stage stands."""
    stage = loop.stage
    if loop.settings.lora_rank is not None:
        _keep_adapter(loop, network)
        merge_adapter(network)
    _commit_log(loop, stage.training_log, TRAINING_LOG, loop.done.log)
    _commit_log(loop, stage.held_out_log, HELD_OUT_LOG, loop.done.held_out)
    _commit_log(loop, stage.timing, TIMING, loop.done.timing)
    commit(
        checkpoint,
        lambda folder: write_checkpoint(folder, base=loop.request.start, denoiser=network),
        kind="checkpoint",
        digest=model_digest,
        identity=loop.identity,
        environment=lambda: _environment(loop),
    )


def _keep_adapter(loop: Loop, network: nn.Module) -> None:
    """The adapter by itself: with the stage's start it is the checkpoint."""
    weights = as_diffusers(trained_adapter(network), family_of(loop.request.start))
    commit(
        loop.stage.adapter(loop.settings.steps),
        lambda folder: write_weights(folder / ADAPTER_FILE, weights),
        kind="adapter",
        identity=loop.identity,
    )


def _environment(loop: Loop) -> dict[str, Any]:
    request, settings = loop.request, loop.settings
    images = settings.steps * settings.batch_size
    extent = {
        "steps": settings.steps,
        "images": images,
        "seconds": loop.done.seconds,
        "device_seconds": loop.done.device_seconds,
        "stall_seconds": loop.done.stall_seconds,
        "compiled": settings.compile and not loop.networks.notes,
        "notes": list(loop.networks.notes),
        "peak_bytes": _peak(request),
        # What the first process holds of them; as much as any other, where they are divided.
        "weight_bytes": sum(own(parameter).nbytes for parameter in loop.networks.tensors.denoiser.parameters()),
        "optimizer_bytes": held_bytes(loop.networks.update.optimizer),
    }
    found = loop.arriving
    overlap = {} if found is None else {"overlapped_steps": found.steps, "waited_seconds": found.standing.seconds}
    return {**class_of(request), **extent, **overlap}


def _peak(request: TrainRequest) -> int:
    """Of the device's memory since the stage began, or of this process's where there is no device."""
    return peak_bytes() if request.device == "cpu" else torch.cuda.max_memory_allocated()


def _reset_peak(request: TrainRequest) -> None:
    """A room may stay for several stages: each has its own peak."""
    reset_peak() if request.device == "cpu" else torch.cuda.reset_peak_memory_stats()


def _commit_log(loop: Loop, path: Path, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    commit(path, lambda target: write_rows(target, schema, rows), kind=path.stem, identity=loop.identity)
