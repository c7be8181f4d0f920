"""The first steps of a stage that stands, made again and compared with its log."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spin.core.difference import TOLD, largest
from spin.core.environment import other_class
from spin.core.layout import StageFolder, manifest_path
from spin.core.progress import Progress
from spin.core.schema import read_table
from spin.core.store import read_manifest, verify
from spin.train.loop import Loop
from spin.train.processes import Processes, class_of
from spin.train.request import TrainRequest


@dataclass(frozen=True)
class Checked:
    steps: int
    differing: int
    largest_difference: float
    notes: tuple[str, ...]


def check_steps(request: TrainRequest, processes: Processes, progress: Progress) -> Checked:
    """Make the first `check_steps` steps again, from the start and in a folder of their own; the stage stays as it is.

    The rate, the order of the rows and the noise are those of the whole training: they are functions of the step. An
    opponent whose errors were stored is asked itself, so that what was stored is checked too.
    """
    stage, steps = StageFolder(request.stage), min(request.check_steps, request.settings.steps)
    verify(stage.training_log)
    standing = read_table(stage.training_log).to_pylist()[:steps]
    with _apart(request) as elsewhere, Loop(elsewhere, processes) as loop:
        for _ in range(steps):
            loop.advance()
            progress(loop.done.step, steps, loop.note())
        made = loop.done.log
    found = [_difference(old, new) for old, new in zip(standing, made, strict=True)]
    return Checked(steps, sum(1 for x in found if x), min(TOLD, max(found, default=0.0)), _other_class(request))


@contextmanager
def _apart(request: TrainRequest) -> Iterator[TrainRequest]:
    """The request in a folder of the stage's name that has its plan and samples, but no state to go on from."""
    stage = StageFolder(request.stage)
    with tempfile.TemporaryDirectory(prefix="spin-check-") as folder:
        copy = StageFolder(Path(folder) / stage.name)
        copy.path.mkdir()
        shared: Sequence[Path] = (stage.plan, stage.plan_rows, stage.samples(0).parent)
        for path in (*shared, *map(manifest_path, shared)):
            if path.exists():
                (copy.path / path.name).symlink_to(path.absolute())
        never = request.settings.steps
        settings = replace(request.settings, state_every_steps=never, held_out_every_steps=never)
        yield replace(request, stage=copy.path, settings=settings, errors=None)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    names = sorted(old.keys() | new.keys())
    return largest(*(np.array([row.get(name) for name in names], float) for row in (old, new)))


def _other_class(request: TrainRequest) -> tuple[str, ...]:
    manifest = read_manifest(StageFolder(request.stage).checkpoint(request.settings.steps))
    note = other_class(class_of(request), {} if manifest is None else manifest.environment)
    return (note,) if note else ()
