"""Who plays an iteration, as the run's record keeps it: child flow runs on other machines read it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.requests import Model, Requests
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot, StageFolder
from spin.core.record import Record
from spin.core.store import read_manifest
from tasks.training import average


@dataclass(frozen=True)
class Round:
    """The model that an iteration starts from, and the one that it is held against."""

    start: Model
    opponent: Model


def models_of(record: Record, root: RunsRoot) -> list[Model]:
    """Every model that the run has so far, base first."""
    stages = [stage for stage in record["stages"] if stage.get("digest")]
    return [Model(s["name"], s["label"], root.path / s["checkpoint"], s["digest"]) for s in stages]


def play_against(requests: Requests, record: Record, number: int, start: Model) -> Round:
    """Who plays iteration `number` from `start`; an averaged opponent is made where it does not stand."""
    kind = requests.config.train.opponent
    if number == 1 or kind == "previous":
        return Round(start, start)
    before = noted_round(record, requests.folder.iteration(number - 1), models_of(record, requests.root))
    if kind == "earlier":
        return Round(start, before.start)
    if before.opponent.digest == start.digest:
        return Round(start, start)  # gone back to: the average of a model with itself
    stage = requests.folder.iteration(number)
    return Round(start, averaged_opponent(stage, average(requests.average(number, before.opponent, start))))


def averaged_opponent(stage: StageFolder, digest: str) -> Model:
    return Model(f"{stage.name}/opponent", f"opponent of {stage.name}", stage.opponent, digest)


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
        average = read_manifest(stage.opponent)
        if average is not None and average.content_digest == digest:
            return averaged_opponent(stage, digest)
        raise ConfigError(f"run {record['run']!r} has no model {digest[:12]} any more", fix="run it again")

    return Round(find(noted["start"]), find(noted["opponent"]))
