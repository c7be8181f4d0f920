"""What trained weights are made from, and whether a stage stands; no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spin.core.environment import channels_last, layout_name
from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder, mirrored_path
from spin.core.planning import read_plan
from spin.core.schema import add_digests
from spin.core.store import Manifest, is_whole, read_manifest
from spin.train.request import TrainRequest

_ELSEWHERE = ("state_every_steps", "held_out_every_steps", "compile")  # cadences, and what the class of bits has


def training_identity(request: TrainRequest) -> dict[str, Any]:
    """What the trained weights are a function of, besides the class of equal bits; all samples must stand."""
    identity = identity_before_samples(request)
    if request.losers is None and request.settings.objective == "spin":
        stage = StageFolder(request.stage)
        shards = range(read_plan(stage).shards)
        identity["samples"] = add_digests(manifest_of(stage.samples(shard)).content_digest for shard in shards)
    return identity


def identity_before_samples(request: TrainRequest) -> dict[str, Any]:
    """As much of it as is known before the opponent's images are drawn."""
    settings = dataclasses.asdict(request.settings)
    for name in _ELSEWHERE:
        settings.pop(name)
    identity = {
        "settings": settings,
        "start": request.start_digest,
        "prompts": manifest_of(request.prompts).content_digest,
        "real": manifest_of(request.real).content_digest,
        "text": manifest_of(request.text).content_digest,
        "run_seed": request.run_seed,
        "draws": request.draws,
        "dtype": request.dtype,
    }
    if request.settings.flip:
        identity["mirrored"] = manifest_of(mirrored_path(request.real)).content_digest
    if request.reference is not None:
        identity["reference"] = request.reference_digest
    if request.losers is not None:
        identity["losers"] = manifest_of(request.losers).content_digest
        if request.settings.flip:
            identity["losers_mirrored"] = manifest_of(mirrored_path(request.losers)).content_digest
    return identity


def training_stands(request: TrainRequest, *, check: Callable[[Path, Mapping[str, Any]], bool] | None = None) -> bool:
    """Whether logs and checkpoint of the stage stand; `check` is shallow, or the store's `stands`."""
    identity = training_identity(request)
    wanted = training_artifacts(request)
    return all(check(path, identity) if check else is_whole(path, identity=identity) for path in wanted)


def training_artifacts(request: TrainRequest) -> tuple[Path, ...]:
    """What a finished training leaves; the checkpoint last: where it stands, all of the stage stands."""
    stage, settings = StageFolder(request.stage), request.settings
    return stage.training_artifacts(settings.steps, adapter=settings.lora_rank is not None)


def steps_class(request: TrainRequest) -> dict[str, object]:
    """What of the class of equal bits the settings of a training say: how weights are kept, lie and are stepped."""
    weights, optimizer = kept_weights(request), request.settings.optimizer
    is_last = channels_last(request.dtype, optimizer=optimizer, divided=weights == "divided")
    return {
        "weights": weights,
        "layout": layout_name(is_last),
        "fused": request.device != "cpu" and optimizer == "adamw",
    }


def kept_weights(request: TrainRequest) -> str:
    """Of the class of equal bits: gradients of divided weights are added in another order."""
    return "divided" if request.sharding == "full" and request.processes > 1 else "whole"


def manifest_of(artifact: Path) -> Manifest:
    """The manifest of an artifact that must be there."""
    manifest = read_manifest(artifact)
    if manifest is None:
        raise ArtifactError("is not there, or was never finished", where=str(artifact), fix="run again")
    return manifest
