"""What the run cost, laid out as the paper's rebuttal does, with the paper's own rows below.

The paper's are wall-clock times of 8 x A100 (rebuttal). Its training hours per iteration are what is left of the
total: (146 h - 3 x 43 h) / 3 = 5.7 h. Ours are seconds of one device: shards are drawn on one each, and seconds of
a training are multiplied by its processes; so compare device hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spin.core.errors import ArtifactError
from spin.core.store import read_manifest
from spin.report.provenance import Spent, time_spent
from spin.report.reading import Run

PAIRS: Final = 2048  # the paper's batch, and the unit of its table
_DEVICES: Final = 8  # of the paper
_HOUR: Final = 3600.0


@dataclass(frozen=True)
class Cost:
    """One row; None is unknown, or does not apply."""

    label: str
    sampling_seconds: float | None  # for 2048 images
    training_seconds: float | None  # for 2048 pairs; for 2048 images in supervised training
    sampling_hours: float | None  # an iteration
    training_hours: float | None  # an iteration
    device_hours: float | None  # in total
    labels: int | None  # human judgements that the data must have
    is_paper: bool = False


PAPER: Final = (
    Cost("paper: SPIN, 3 iterations", 342, 73, 43, 5.7, _DEVICES * 146, 0, True),
    Cost("paper: + batch 64 and torch.compile", 136, 73, 17, 5.7, None, 0, True),
    Cost("paper: + DPM-Solver, 20 steps", 56, 73, 7, 5.7, _DEVICES * 38, 0, True),
    Cost("paper: SFT", None, 37, None, None, _DEVICES * 20, 0, True),
)


def cost_table(run: Run) -> tuple[Cost, ...]:
    """The game and the supervised stage of this run, then the paper's rows; empty where no time was recorded."""
    spent = time_spent(run)
    processes = {stage["label"]: _processes(run, stage) for stage in run.record.get("stages") or [] if "label" in stage}
    games = {stage.label for stage in run.stages if stage.plays}
    supervised = {stage.label for stage in run.stages if stage.training is not None} - games
    own = [
        _own(run, label, [row for row in spent if row.stage in members], processes, len(members))
        for label, members in ((f"this run: {_objective(run)}", games), ("this run: SFT", supervised))
    ]
    rows = tuple(row for row in own if row is not None)
    return (*rows, *PAPER) if rows else ()


def _own(run: Run, label: str, spent: Sequence[Spent], processes: dict[str, int], stages: int) -> Cost | None:
    sampling = [row for row in spent if row.kind == "sampling"]
    training = [row for row in spent if row.kind == "training"]
    drawn = sum(row.seconds for row in sampling)
    trained = sum(row.seconds * processes.get(row.stage, 1) for row in training)
    if drawn + trained <= 0:
        return None
    plays = not label.endswith(": SFT")
    return Cost(
        label=f"{label}, {stages} iteration{'s' if stages > 1 else ''}" if plays else label,
        sampling_seconds=_rate(drawn, sampling),
        training_seconds=_rate(trained, training),
        sampling_hours=drawn / stages / _HOUR if sampling else None,
        training_hours=trained / stages / _HOUR if plays and training else None,
        device_hours=(drawn + trained) / _HOUR,
        labels=_labels(run) if plays else 0,
    )


def _rate(seconds: float, rows: Sequence[Spent]) -> float | None:
    """Device seconds for 2048 images or pairs."""
    images = sum(row.images or 0 for row in rows)
    return PAIRS * seconds / images if images and seconds > 0 else None


def _objective(run: Run) -> str:
    return {"dpo": "Diffusion-DPO"}.get(_settings(run).get("objective", ""), "SPIN")


def _labels(run: Run) -> int | None:
    """Self-play needs none; Diffusion-DPO one for each of its pairs."""
    if _settings(run).get("objective") != "dpo":
        return 0
    counted = (run.record.get("prompts") or {}).get("train")
    return counted if isinstance(counted, int) else None


def _settings(run: Run) -> dict[str, Any]:
    return (run.record.get("config") or {}).get("train") or {}


def _processes(run: Run, stage: dict[str, Any]) -> int:
    """Processes of a stage's training, from its checkpoint's manifest."""
    checkpoint = stage.get("checkpoint")
    if not checkpoint:
        return 1
    try:
        manifest = read_manifest(run.folder.root.path / Path(checkpoint))
    except ArtifactError:
        return 1
    return int(manifest.environment.get("processes", 1)) if manifest is not None else 1
