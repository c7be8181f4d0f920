"""What the report room is asked and what it answers; paths and exact values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spin.core.comparison import SampleSize, WinRate
from spin.core.gate import Evidence
from spin.core.statistics import Estimate

Kind = Literal["judge", "average", "measure"]  # average: made of judges; measure: of the set, or of the model
Against = Literal["previous", "base", "start"]  # start: the model that iteration 1 began from


@dataclass(frozen=True)
class ReportRequest:
    runs_root: Path
    run: str
    page: bool = True  # false: only the story, its scores and its contact sheet; no page, no plots


@dataclass(frozen=True)
class Column:
    """One metric of the score table, and how its numbers are shown."""

    metric: str
    title: str
    digits: int
    lower_is_better: bool
    per_prompt: bool  # false for a number of the whole set: it has no pairs, hence no interval
    percent: bool = False  # values are shares in 0..1
    kind: Kind = "judge"

    @property
    def direction(self) -> str:
        return "lower is better" if self.lower_is_better else "higher is better"


@dataclass(frozen=True)
class Comparison:
    against: Against
    opponent: str  # label of the other model
    difference: Estimate
    wins: WinRate | None  # None where winning a prompt has no meaning
    missing: int = 0  # prompts left out: one of the two has no value for them, a quarantined picture say
    size: SampleSize | None = None  # None where a single prompt was compared


@dataclass(frozen=True)
class Cell:
    column: Column
    mean: Estimate | None  # low == high == value where the metric has no interval
    median: float | None
    best: bool
    best_median: bool
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class ScoreRow:
    """One line of the score table: the real held-out images (name "data") or one model."""

    name: str
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ReportResult:
    """Paths are None where the file was not asked for, or where there is nothing to put in it yet."""

    page: Path | None
    metrics: Path | None
    table: Path | None
    grid: Path | None
    verdict: str
    rows: tuple[ScoreRow, ...]
    story: str  # Markdown
    scores: tuple[dict[str, str | float], ...]  # a row per model, all with the same keys
    sheet: Path | None
    evidence: tuple[Evidence, ...]  # of each trained model that can be judged, in order
