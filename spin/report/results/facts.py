"""What a comparison leaves behind: scores as Parquet, and the facts about its runs as JSON. No pictures in either."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.draft import replace_file
from spin.core.errors import ArtifactError, ConfigError
from spin.core.recipe import Recipe

SCORES: Final = "scores.parquet"
FACTS: Final = "comparison.json"
SCHEMA: Final = pa.schema(
    [
        ("row", pa.string()),  # arm/stage; base
        ("seed", pa.int32()),  # of the run
        ("prompt", pa.string()),  # its id
        ("metric", pa.string()),
        ("value", pa.float32()),
    ]
)


@dataclass(frozen=True)
class StageFacts:
    """One stage of one run: what it cost and what else was measured."""

    stage: str  # sft, iteration-01, ...
    label: str
    images: int  # rows of real data that training read; a pair is one
    sampled: int  # images that the opponent drew for it
    train_seconds: float  # of the device: on a CPU what the process worked
    sample_seconds: float
    peak_bytes: int | None  # of a process of its own; a shared one would tell how old it is
    set_metrics: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, float] = field(default_factory=dict)  # means of the log's last steps
    held_out: Mapping[str, float] = field(default_factory=dict)  # held-out error over its start, by timestep


@dataclass(frozen=True)
class RunFacts:
    """One arm with one seed."""

    arm: str
    seed: int
    run: str
    planned: Mapping[str, float]  # images, sampled, time: counted before it started
    settings: Mapping[str, Any]  # what the arm set, and the steps that were solved
    stages: tuple[StageFacts, ...] = ()
    chosen: str | None = None  # the stage that the recipe's other prompts chose
    failed: str | None = None  # why it has not come to its end; None: it has


@dataclass(frozen=True)
class Row:
    """A line of the tables."""

    row: str  # arm/stage; base
    arm: str
    stage: str
    label: str
    budget: str
    last: bool  # the arm's last model

    @property
    def is_base(self) -> bool:
        return self.row == "base"

    @property
    def has_seeds(self) -> bool:
        """Whether run seeds made models of it; the base and a checkpoint are one model each, scored once."""
        return not self.is_base and self.stage != "checkpoint"


@dataclass(frozen=True)
class Facts:
    """Everything about a comparison but its scores."""

    recipe: Recipe
    overrides: tuple[str, ...]  # KEY=VALUE that was set beside the recipe
    benchmark: str  # <benchmark>.<protocol>
    evaluation: Mapping[str, Any]
    rates: Mapping[str, float | None]
    rates_from: str  # the recipe, a probe, or passes counted
    train_rows: int
    prompts: int
    code_version: str
    versions: Mapping[str, str]
    machine: str
    base_digest: str
    set_metrics: Mapping[str, Mapping[str, float]]  # of the base and of checkpoints, by row
    rows: tuple[Row, ...]
    runs: tuple[RunFacts, ...]

    def runs_of(self, arm: str) -> tuple[RunFacts, ...]:
        return tuple(run for run in self.runs if run.arm == arm)


def write_facts(folder: Path, facts: Facts) -> None:
    values = {**asdict(facts), "recipe": facts.recipe.model_dump(mode="json")}
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    replace_file(folder / FACTS, text.encode())


def read_facts(folder: Path) -> Facts:
    """The facts of a comparison's folder."""
    path = folder / FACTS
    try:
        raw = json.loads(path.read_text("utf-8"))
        runs = tuple(
            RunFacts(**{**run, "stages": tuple(StageFacts(**stage) for stage in run["stages"])}) for run in raw["runs"]
        )
        rows = tuple(Row(**row) for row in raw["rows"])
        own = {"recipe": Recipe.model_validate(raw["recipe"]), "overrides": tuple(raw["overrides"])}
        return Facts(**{**raw, **own, "rows": rows, "runs": runs})
    except FileNotFoundError:
        raise ConfigError("no results of a comparison here", where=str(folder), fix=f"it holds no {FACTS}") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtifactError("is damaged", where=str(path), fix="run the comparison again") from error


def write_scores(folder: Path, rows: Sequence[tuple[str, int, str, str, float]]) -> None:
    """Sorted, so that equal scores give equal bytes."""
    ordered = sorted(rows)
    columns = [pa.array([row[place] for row in ordered], field.type) for place, field in enumerate(SCHEMA)]
    table = pa.table(columns, SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=19, store_schema=False)
    replace_file(folder / SCORES, buffer.getvalue())


def read_scores(folder: Path) -> pa.Table:
    try:
        return pq.read_table(folder / SCORES)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"cannot be read: {reason}", where=str(folder / SCORES), fix="run the comparison again"
        ) from error
