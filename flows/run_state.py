"""What the flows of one run share, and what each stage cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.executors import Executor
from flows.requests import Model, Requests
from spin.core.record import Record
from spin.core.store import read_manifest
from spin.prepare.request import PrepareResult


@dataclass
class Totals:
    """What this call did; all zero where everything stood."""

    images_sampled: int = 0
    optimizer_steps: int = 0
    images_scored: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.images_sampled} images sampled, {self.optimizer_steps} optimizer steps, "
            f"{self.images_scored} images scored"
        )


@dataclass
class RunState:
    """What the flows of one run share: its requests, its record, what was done."""

    requests: Requests
    executor: Executor
    record: Record
    prepared: PrepareResult
    totals: Totals = field(default_factory=Totals)
    unscored: list[Model | None] = field(default_factory=list)  # scored while the next one is made

    def stage(self, name: str) -> dict[str, Any]:
        """The record of a stage, made at its first use."""
        stages: list[dict[str, Any]] = self.record["stages"]
        for found in stages:
            if found["name"] == name:
                return found
        stages.append({"name": name})
        return stages[-1]

    def spent(self, stage: str, task: str, artifacts: Iterable[Path]) -> None:
        """Note what the artifacts cost as their manifests tell it, whichever call made them."""
        made = [manifest.environment for path in artifacts if (manifest := read_manifest(path)) is not None]
        row = {
            "stage": stage,
            "task": task,
            "seconds": sum(float(environment.get("seconds", 0.0)) for environment in made),
            "device_seconds": sum(float(environment.get("device_seconds", 0.0)) for environment in made),
            "images": _count(task, [int(environment.get("images", 0)) for environment in made]),
        }
        kept = [r for r in self.record["stage_seconds"] if (r["stage"], r["task"]) != (stage, task)]
        self.record["stage_seconds"] = [*kept, row]


def _count(task: str, images: list[int]) -> int:
    """Shards add up; the artifacts of one evaluation tell of the same pictures."""
    return sum(images) if task == "sample" else max(images, default=0)
