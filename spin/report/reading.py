"""Reads a run from its files. What is not there yet is left out; what is damaged is left out and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from spin.core import store
from spin.core.errors import ArtifactError
from spin.core.layout import EvaluationFolder, RealCache, RunFolder, RunsRoot, manifest_path
from spin.core.record import read_record, relative
from spin.core.schema import read_table

Score = tuple[str, int, float]  # prompt id, seed of the picture, score
Draw = tuple[str, int]  # prompt id, draw


@dataclass(frozen=True)
class Evaluation:
    """What was measured on one subject; each part may be missing."""

    folder: EvaluationFolder | None = None
    scores: Mapping[str, tuple[Score, ...]] = field(default_factory=dict)  # by scorer
    prompts: Mapping[str, str] = field(default_factory=dict)  # caption by prompt id
    set_metrics: Mapping[str, float] = field(default_factory=dict)
    denoising: Mapping[Draw, tuple[int, float]] = field(default_factory=dict)  # timestep and error


@dataclass(frozen=True)
class Training:
    """Logs of one stage as columns; empty where the stage wrote none yet."""

    log: Mapping[str, list[float | None]]
    held_out: Mapping[str, list[float]]
    seconds: float | None
    steps: int | None
    pairs: int | None


@dataclass(frozen=True)
class Stage:
    name: str
    label: str
    digest: str
    opponent_digest: str | None
    evaluation: Evaluation
    training: Training | None

    @property
    def plays(self) -> bool:
        """True for an iteration of the game; the base and the SFT stage have no opponent."""
        return self.name.startswith("iteration-")


@dataclass(frozen=True)
class Run:
    folder: RunFolder
    name: str
    record: Mapping[str, Any]  # run.json as it stands
    stages: tuple[Stage, ...]
    data: Evaluation  # the real held-out images
    real: RealCache | None
    notices: tuple[str, ...]  # what was found damaged and left out

    def previous(self, stage: Stage) -> Stage | None:
        """The stage's opponent; where none is recorded, the stage before it."""
        for other in self.stages:
            if stage.opponent_digest and other.digest == stage.opponent_digest and other is not stage:
                return other
        position = self.stages.index(stage)
        return self.stages[position - 1] if position else None

    @property
    def start(self) -> Stage | None:
        """The model that iteration 1 began from; without iterations, the first model."""
        first = next((stage for stage in self.stages if stage.plays), None)
        return self.previous(first) if first else (self.stages[0] if self.stages else None)


def read_run(*, runs_root: Path, run: str) -> Run:
    root = RunsRoot(runs_root)
    folder = root.run(run)
    record = read_record(folder)
    reader = _Reader(root, folder)
    stages = tuple(reader.stage(raw) for raw in record.get("stages") or [])
    data = reader.evaluation((record.get("data") or {}).get("evaluation"))
    real = reader.locate(record.get("real"))
    name = str(record.get("run") or run)
    return Run(folder, name, record, stages, data, RealCache(real) if real else None, tuple(reader.notices))


class _Reader:
    """Reads artifacts of one run; remembers what it had to leave out."""

    def __init__(self, root: RunsRoot, folder: RunFolder) -> None:
        self.root, self.folder = root, folder
        self.notices: list[str] = []

    def locate(self, path: str | None) -> Path | None:
        """A path of the record: absolute, or relative to the runs root or to the run's folder."""
        if not path:
            return None
        candidates = [self.root.path / path, self.folder.path / path]
        return next((candidate for candidate in candidates if candidate.exists()), None)

    def table(self, artifact: Path | None) -> pa.Table | None:
        if artifact is None or not (artifact.exists() and manifest_path(artifact).exists()):
            return None
        try:
            store.verify(artifact)
            return read_table(artifact)
        except ArtifactError as error:
            self.notices.append(f"{relative(artifact, self.root)}: {error.message}")
            return None

    def stage(self, raw: Mapping[str, Any]) -> Stage:
        name = str(raw["name"])
        return Stage(
            name=name,
            label=str(raw.get("label") or name),
            digest=str(raw.get("digest") or ""),
            opponent_digest=raw.get("opponent_digest"),
            evaluation=self.evaluation(raw.get("evaluation")),
            training=self.training(raw.get("training")),
        )

    def training(self, raw: Mapping[str, Any] | None) -> Training | None:
        if not raw:
            return None
        log, held_out = self.table(self.locate(raw.get("log"))), self.table(self.locate(raw.get("held_out")))
        return Training(
            log=log.to_pydict() if log is not None else {},
            held_out=held_out.to_pydict() if held_out is not None else {},
            seconds=raw.get("seconds"),
            steps=raw.get("steps"),
            pairs=raw.get("pairs"),
        )

    def evaluation(self, path: str | None) -> Evaluation:
        located = self.locate(path)
        if located is None:
            return Evaluation()
        folder = EvaluationFolder(located)
        scores: dict[str, list[Score]] = {}
        prompts: dict[str, str] = {}
        for shard in shards(folder.scores(0).parent):
            self._collect_scores(shard, scores, prompts)
        sets = _rows(self.table(folder.set_metrics), "metric", "value")
        draws = [
            row
            for shard in shards(folder.denoising(0).parent)
            for row in _rows(self.table(shard), "prompt_id", "draw", "timestep", "error")
        ]
        return Evaluation(
            folder=folder,
            scores={scorer: tuple(rows) for scorer, rows in scores.items()},
            prompts=prompts,
            set_metrics=dict(sets),
            denoising={(prompt, draw): (timestep, error) for prompt, draw, timestep, error in draws},
        )

    def _collect_scores(self, shard: Path, scores: dict[str, list[Score]], prompts: dict[str, str]) -> None:
        for prompt_id, prompt, seed, scorer, score in _rows(
            self.table(shard), "prompt_id", "prompt", "seed", "scorer", "score"
        ):
            scores.setdefault(scorer, []).append((prompt_id, seed, score))
            prompts[prompt_id] = prompt


def shards(folder: Path) -> list[Path]:
    """The Parquet shards of a folder in the order of their names."""
    return sorted(folder.glob("shard-*.parquet"))


def _rows(table: pa.Table | None, *names: str) -> list[tuple[Any, ...]]:
    if table is None:
        return []
    columns: Sequence[list[Any]] = [table.column(name).to_pylist() for name in names]
    return list(zip(*columns, strict=True))
