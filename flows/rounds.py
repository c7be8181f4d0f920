"""Who plays an iteration, as the run's record keeps it: child flow runs on other machines read it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.requests import Model
from spin.core.errors import ConfigError
from spin.core.layout import StageFolder
from spin.core.record import Record


@dataclass(frozen=True)
class Round:
    """The model that an iteration starts from, and the one that it is held against."""

    start: Model
    opponent: Model


def note_round(record: Record, stage: StageFolder, players: Round) -> None:
    """Write down who plays, before anything is made."""
    noted = {"start": players.start.digest, "opponent": players.opponent.digest}
    record.setdefault("rounds", {})[stage.name] = noted


def noted_round(record: Record, stage: StageFolder, models: Sequence[Model]) -> Round:
    """Who plays an iteration that was begun, found among the run's models."""
    noted = record.get("rounds", {}).get(stage.name)
    if noted is None:
        begun = ", ".join(sorted(record.get("rounds", {}))) or "none yet"
        raise ConfigError(f"run {record['run']!r} has not begun {stage.name}", fix=f"begun: {begun}")

    def find(digest: str) -> Model:
        for model in models:
            if model.digest == digest:
                return model
        raise ConfigError(f"run {record['run']!r} has no model {digest[:12]} any more", fix="run it again")

    return Round(find(noted["start"]), find(noted["opponent"]))
