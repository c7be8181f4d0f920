"""A table that a benchmark measured, prompt by prompt or image by image: means with their intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from spin.core.draft import replace_file
from spin.core.errors import ArtifactError
from spin.core.plan import seed_of
from spin.core.statistics import mean_interval
from spin.report.figures import NOTHING, count, number
from spin.report.markdown import escape, table
from spin.report.results.facts import read_scores, write_scores

MEASURED: Final = "measured.json"


@dataclass(frozen=True)
class MeasuredColumn:
    """A metric of the scores, and how it is shown."""

    metric: str
    title: str
    digits: int
    scale: float = 1.0  # 100 for shares


@dataclass(frozen=True)
class MeasuredRow:
    row: str
    label: str
    also: tuple[str, ...] = ()  # what has one number only, as it is shown


@dataclass(frozen=True)
class Measured:
    """Everything about a measured table but its values."""

    question: str
    text: str  # what was done, in a few sentences
    command: str
    machine: str
    columns: tuple[MeasuredColumn, ...]
    also: tuple[str, ...]  # titles of what has one number only
    rows: tuple[MeasuredRow, ...]


def write_measured(folder: Path, measured: Measured, scores: Mapping[tuple[str, str], Mapping[str, float]]) -> None:
    """Write a measured table.

    Args:
        scores: by row and metric, a value for each prompt or image.
    """
    text = json.dumps(asdict(measured), indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    replace_file(folder / MEASURED, text.encode())
    rows = [
        (row, 0, name, metric, float(value))
        for (row, metric), values in scores.items()
        for name, value in values.items()
    ]
    write_scores(folder, rows)


def read_measured(folder: Path) -> Measured:
    path = folder / MEASURED
    try:
        raw = json.loads(path.read_text("utf-8"))
        columns = tuple(MeasuredColumn(**column) for column in raw["columns"])
        rows = tuple(MeasuredRow(row["row"], row["label"], tuple(row["also"])) for row in raw["rows"])
        return Measured(**{**raw, "columns": columns, "rows": rows, "also": tuple(raw["also"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError("is damaged", where=str(path), fix="measure it again") from error


def measured_chapter(folder: Path, notes: str = "") -> str:
    """The table in Markdown: mean and bootstrap 95 % interval of every cell."""
    found = read_measured(folder)
    values: dict[tuple[str, str], list[float]] = {}
    scores = read_scores(folder)
    columns = (scores.column(name).to_pylist() for name in ("row", "metric", "value"))
    for row, metric, value in zip(*columns, strict=True):
        values.setdefault((row, metric), []).append(value)
    lines = [
        [escape(row.label), *(_cell(values.get((row.row, c.metric), []), c, row.row) for c in found.columns), *row.also]
        for row in found.rows
    ]
    many = max((len(each) for each in values.values()), default=0)
    head = ["", *(column.title for column in found.columns), *found.also]
    setting = (
        f"{found.text} {count(many)} values a cell, with bootstrap 95 % intervals; {found.machine}; `{found.command}`."
    )
    blocks = [f"## {escape(found.question)}", setting, table(head, lines), notes.strip()]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _cell(values: Sequence[float], column: MeasuredColumn, row: str) -> str:
    if not values:
        return NOTHING
    found = mean_interval(column.scale * np.array(values), seed=seed_of("measured", row))
    low, high = (number(bound, column.digits) for bound in (found.low, found.high))
    return f"{number(found.value, column.digits)} [{low}, {high}]"
