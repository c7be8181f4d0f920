"""Files beside the page: every plot as SVG, every table as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from spin.core.comparison import SampleSize, WinRate
from spin.core.statistics import Estimate
from spin.report.boards import Board
from spin.report.costs import Cost
from spin.report.paper import METRICS
from spin.report.provenance import Spent, time_spent
from spin.report.reading import Run
from spin.report.request import Comparison
from spin.report.scoring import convergence
from spin.report.svg import Drawing, standalone
from spin.report.votes import Tally, tallies

Cells = Iterable[str | float | int | None]


@dataclass(frozen=True)
class Export:
    """One file: its path below the report's folder, what it is, and its text."""

    path: str
    title: str
    text: str


def exports(run: Run, boards: Sequence[Board], costs: Sequence[Cost], drawings: Iterable[Drawing]) -> list[Export]:
    """Tables first: evaluation by evaluation, then those of the run."""
    votes = tallies(run)
    of_run = (
        ("convergence", ("model", "opponent", "opponent's loss", *_INTERVAL), list(_convergence(run))),
        ("time", ("stage", "work", "seconds", "images"), [_spent(row) for row in time_spent(run)]),
        ("costs", _COSTS, [_cost(row) for row in costs]),
        ("votes", _VOTES, [_vote(row) for row in votes]),
        ("agreement", _AGREEMENT, [line for row in votes for line in _agreement(row)]),
    )
    tables = [export for board in boards for export in _tables(board)]
    tables += [Export(f"tables/{name}.csv", name, _csv(header, rows)) for name, header, rows in of_run if rows]
    plots = [Export(f"plots/{plot.name}.svg", plot.heading, standalone(plot)) for plot in drawings]
    return [*tables, *plots]


_INTERVAL = ("value", "low", "high")
_WINS = ("wins", "ties", "losses", "share", "share low", "share high")
_VOTES = ("model", "opponent", "evaluation", "voters", "votes for", "votes against", "cannot say",
          "share", "share low", "share high")  # fmt: skip
_AGREEMENT = ("judge", "model", "opponent", "evaluation", "agreeing", "votes", "share", "share low", "share high")
_COSTS = (
    "run", "sampling seconds for 2048 images", "training seconds for 2048", "sampling hours an iteration",
    "training hours an iteration", "device hours", "labels",
)  # fmt: skip


def _tables(board: Board) -> Iterator[Export]:
    """Those of one evaluation that have a line."""
    found = (
        ("scores", ("model", "metric", "median", "mean", "low", "high"), _scores(board)),
        ("differences", ("model", "against", "opponent", "metric", *_INTERVAL, *_WINS, "prompts", "left out",
                         "prompts needed", "smallest difference shown"), _differences(board)),
        ("win-rates", ("model", "opponent", "metric", *_WINS), _matrix(board)),
        ("groups", ("kind", "group", "model", "opponent", "metric", *_INTERVAL, *_WINS, "prompts"), _groups(board)),
        ("paper", ("statistic", "paper's model", "model", "metric", "paper", "run", "difference", "source"),
         _paper(board)),
    )  # fmt: skip
    for name, header, rows in found:
        lines = [list(row) for row in rows]
        if lines:
            key = board.key or "evaluation"
            title = f"{name.replace('-', ' ')}, {key}"
            yield Export(f"tables/{key}.{name}.csv", title, _csv(header, lines))


def _scores(board: Board) -> Iterator[Cells]:
    for row in board.rows:
        for cell in row.cells:
            if cell.mean is not None:
                bounds = (cell.mean.low, cell.mean.high) if cell.column.per_prompt else (None, None)
                yield row.label, cell.column.metric, cell.median, cell.mean.value, *bounds


def _differences(board: Board) -> Iterator[Cells]:
    for row in board.rows:
        for cell in row.cells:
            for found in cell.comparisons:
                named = (row.label, found.against, found.opponent, cell.column.metric)
                size = found.size or SampleSize(1, None, math.nan)
                reach = (size.prompts, found.missing, size.needed, size.smallest)
                yield *named, *_compared(found), *reach


def _matrix(board: Board) -> Iterator[Cells]:
    for matrix in board.matrices:
        for label, cells in zip(matrix.labels, matrix.cells, strict=True):
            for opponent, cell in zip(matrix.labels, cells, strict=True):
                if cell is not None:
                    yield label, opponent, matrix.column.metric, *_wins(cell)


def _groups(board: Board) -> Iterator[Cells]:
    for table in board.groups:
        for line in table.lines:
            for column, found in zip(table.columns, line.cells, strict=True):
                if found is not None:
                    named = (table.kind, line.name, table.model, table.opponent, column.metric)
                    yield *named, *_compared(found), line.prompts


def _paper(board: Board) -> Iterator[Cells]:
    for line in board.paper:
        for metric, cell in zip(METRICS, line.cells, strict=True):
            if cell.paper is not None:
                named = (line.statistic, line.model, line.label, metric)
                yield *named, cell.paper, cell.own, cell.difference, line.source


def _convergence(run: Run) -> Iterator[Cells]:
    for stage in run.stages:
        found = convergence(run, stage)
        if found is not None:
            opponent, loss, compared = found
            yield stage.label, opponent, loss, *_bounds(compared.difference)


def _spent(row: Spent) -> Cells:
    return row.stage, row.kind, row.seconds, row.images


def _cost(row: Cost) -> Cells:
    hours = (row.sampling_hours, row.training_hours, row.device_hours)
    return row.label, row.sampling_seconds, row.training_seconds, *hours, row.labels


def _vote(row: Tally) -> Cells:
    counts = (len(row.voters), row.wins, row.losses, row.undecided)
    return row.second, row.first, row.evaluation, *counts, *((None,) * 3 if row.share is None else _bounds(row.share))


def _agreement(row: Tally) -> Iterator[Cells]:
    for found in row.agreement:
        named = (found.judge, row.second, row.first, row.evaluation)
        yield *named, found.same, found.votes, *_bounds(found.share)


def _compared(found: Comparison) -> tuple[float | int | None, ...]:
    return *_bounds(found.difference), *_wins(found.wins)


def _bounds(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _wins(found: WinRate | None) -> tuple[float | int | None, ...]:
    return (None,) * len(_WINS) if found is None else (found.wins, found.ties, found.losses, *_bounds(found.share))


def _csv(header: Sequence[str], rows: Iterable[Cells]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
    return stream.getvalue()
