"""Which LoRA adapters lead from one model of a run to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot, adapter_of
from spin.core.record import Record
from spin.core.store import read_manifest

ADAPTER_FILE: Final = "pytorch_lora_weights.safetensors"  # what `load_lora_weights` looks for in a folder


@dataclass(frozen=True)
class Made:
    """A model of a run."""

    name: str  # base, sft, iteration-01, ...
    folder: Path
    digest: str


@dataclass(frozen=True)
class Way:
    """From one model of a run to another by adapters alone."""

    start: Made
    end: Made
    stages: tuple[str, ...]  # oldest first
    adapters: tuple[Path, ...]  # of these stages


def way_between(root: RunsRoot, record: Record, *, start: str, end: str | None) -> Way:
    """The adapters that were merged one after the other into `start` to become `end`.

    Args:
        start, end: names of stages; `end` None: the run's newest model.

    Raises:
        ConfigError: for an unknown stage, and where another kind of training lies between.
    """
    models = [Made(s["name"], root.path / s["checkpoint"], s["digest"]) for s in _finished(record)]
    begun, current = _named(models, start, record), _named(models, end, record)
    last, stages = current, []
    while current.digest != begun.digest:
        manifest = read_manifest(adapter_of(current.folder))
        before = None if manifest is None else _of_digest(models, str(manifest.identity.get("start")))
        if before is None:
            raise ConfigError(
                f"no adapters lead from {start} to {last.name}: {_reason(current, begun, models)}", where=record["run"],
                fix=_way_out(current, last),
            )  # fmt: skip
        stages.append(current)
        current = before
    if not stages:
        raise ConfigError(f"{start} and {last.name} are one model", where=record["run"], fix="name a later --stage")
    stages.reverse()
    return Way(begun, last, tuple(s.name for s in stages), tuple(adapter_of(s.folder) for s in stages))


def _finished(record: Record) -> list[dict[str, Any]]:
    return [stage for stage in record["stages"] if stage.get("digest") and stage.get("checkpoint")]


def _named(models: list[Made], name: str | None, record: Record) -> Made:
    found = [model for model in models if name in (None, model.name)]
    if not found:
        known = ", ".join(model.name for model in models) or "none yet"
        raise ConfigError(f"run {record['run']!r} has no model {name!r}", fix=f"models: {known}")
    return found[-1]


def _of_digest(models: list[Made], digest: str) -> Made | None:
    return next((model for model in models if model.digest == digest), None)


def _reason(current: Made, begun: Made, models: list[Made]) -> str:
    if current.digest == models[0].digest:
        return f"{begun.name} is none of its ancestors"
    return f"{current.name} has none: all its weights trained, or it was made before adapters were kept"


def _way_out(current: Made, last: Made) -> str:
    if current.digest == last.digest:
        return "train with train.lora_rank (sft.lora_rank), or use the checkpoint itself"
    return f"take --relative-to {current.name}"
