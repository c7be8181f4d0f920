"""The score table as data: metrics.parquet in long form, table.csv for a spreadsheet, rows for the Prefect UI."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from spin.core import store
from spin.core.comparison import WinRate
from spin.core.schema import content_digest, write_rows
from spin.core.statistics import Estimate
from spin.report.figures import told
from spin.report.request import Cell, Column, Comparison, ScoreRow
from spin.report.verdict import OPPONENTS

METRICS: Final = pa.schema(
    [
        ("model", pa.string()),
        ("metric", pa.string()),
        ("statistic", pa.string()),  # mean, median, value (of a whole set), difference, win_rate, or a count of prompts
        ("value", pa.float64()),
        ("low", pa.float64()),  # null where there is no interval
        ("high", pa.float64()),
        ("against", pa.string()),  # base, previous or start; null where nothing is compared
    ]
)


def metric_rows(rows: Sequence[ScoreRow]) -> Iterator[dict[str, Any]]:
    """Every number of the score table, one a row."""
    for row in rows:
        for cell in row.cells:
            yield from _cell_rows(row.label, cell)


def write_metrics(path: Path, rows: Sequence[ScoreRow], *, run: str) -> None:
    """Commit metrics.parquet; a standing one with other numbers is replaced, as a report grows with its run."""
    numbers = list(metric_rows(rows))

    def write(target: Path) -> None:
        write_rows(target, METRICS, numbers)

    def commit() -> store.Commit:
        return store.commit(path, write, kind="metrics", digest=content_digest, identity={"run": run})

    if commit().conflicting or not store.is_intact(path):
        store.discard(path)
        commit()


def csv_text(rows: Sequence[ScoreRow]) -> str:
    """One line per model; for each metric its mean, interval and median, then the differences against the base."""
    columns = [cell.column for cell in rows[0].cells] if rows else []
    header = ["model"]
    for column in columns:
        header += [
            f"{column.metric}{part}" for part in ("", " low", " high", " median", " minus base", " wins over base")
        ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([row.label, *(text for cell in row.cells for text in _csv_cells(cell))])
    return stream.getvalue()


def flat_rows(rows: Sequence[ScoreRow]) -> tuple[dict[str, str | float], ...]:
    """A row per model with plain values under the same keys: means, then differences with their intervals."""
    return tuple(
        {"model": row.label}
        | {_titled(cell.column): _plain(cell) for cell in row.cells}
        | {
            f"{cell.column.title} minus {opponent}": _compared(cell, pick(row, cell))
            for opponent, pick in OPPONENTS
            for cell in row.cells
            if cell.column.per_prompt
        }
        for row in rows
    )


def _titled(column: Column) -> str:
    return column.title + (" (%)" if column.percent else "") + (" (lower)" if column.lower_is_better else "")


def _plain(cell: Cell) -> str | float:
    """The mean as a number with the decimals of its column."""
    if cell.mean is None:
        return ""
    return round(100 * cell.mean.value, 1) if cell.column.percent else round(cell.mean.value, cell.column.digits)


def _compared(cell: Cell, found: Comparison | None) -> str:
    return "" if found is None else told(cell.column, found)


def _csv_cells(cell: Cell) -> list[str]:
    against_base = next((c for c in cell.comparisons if c.against == "base"), None)
    bounds = cell.mean if cell.mean is not None and cell.column.per_prompt else None
    numbers = [
        cell.mean.value if cell.mean else None,
        bounds.low if bounds else None,
        bounds.high if bounds else None,
        cell.median,
        against_base.difference.value if against_base else None,
        against_base.wins.share.value if against_base and against_base.wins else None,
    ]
    return ["" if value is None else f"{value:.6g}" for value in numbers]


def _cell_rows(model: str, cell: Cell) -> Iterator[dict[str, Any]]:
    metric = cell.column.metric
    if cell.mean is not None and cell.column.per_prompt:
        yield _number(model, metric, "mean", cell.mean)
    elif cell.mean is not None:
        yield {"model": model, "metric": metric, "statistic": "value", "value": cell.mean.value}
    if cell.median is not None:
        yield {"model": model, "metric": metric, "statistic": "median", "value": cell.median}
    for comparison in cell.comparisons:
        yield _number(model, metric, "difference", comparison.difference, comparison.against)
        if comparison.wins is not None:
            yield from _win_rows(model, metric, comparison, comparison.wins)


def _win_rows(model: str, metric: str, comparison: Comparison, wins: WinRate) -> Iterator[dict[str, Any]]:
    yield _number(model, metric, "win_rate", wins.share, comparison.against)
    counts = {"wins": wins.wins, "ties": wins.ties, "losses": wins.losses, "left_out": comparison.missing}
    for statistic, prompts in counts.items():
        named = {"model": model, "metric": metric, "statistic": statistic, "against": comparison.against}
        yield {**named, "value": float(prompts)}


def _number(model: str, metric: str, statistic: str, estimate: Estimate, against: str | None = None) -> dict[str, Any]:
    return {
        "model": model, "metric": metric, "statistic": statistic, "value": estimate.value,
        "low": estimate.low, "high": estimate.high, "against": against,
    }  # fmt: skip
