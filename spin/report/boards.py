"""One board for each evaluation of a run: the paper's tables for that benchmark and protocol, and for no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from spin.report.groups import GroupTable, group_tables
from spin.report.matrix import Matrix, win_matrices
from spin.report.paper import PaperLine, beside_paper
from spin.report.reading import Run
from spin.report.request import Against, Column, Comparison, ScoreRow
from spin.report.scoring import columns_of, score_rows
from spin.report.subjects import Subject, subjects_of


@dataclass(frozen=True)
class PanelLine:
    model: str
    opponent: str
    cells: tuple[Comparison | None, ...]  # one for each column


@dataclass(frozen=True)
class Panel:
    """Every model against one kind of opponent."""

    against: Against
    columns: tuple[Column, ...]
    lines: tuple[PanelLine, ...]


@dataclass(frozen=True)
class Board:
    key: str  # <benchmark>.<protocol>
    run: Run  # seen through this evaluation
    subjects: tuple[Subject, ...]
    columns: tuple[Column, ...]
    rows: tuple[ScoreRow, ...]
    matrices: tuple[Matrix, ...]
    groups: tuple[GroupTable, ...]
    paper: tuple[PaperLine, ...]  # empty where the paper's numbers do not apply

    @property
    def benchmark(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def protocol(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Differences by kind of opponent, where there are some."""
        found = (_panel(self.rows, self.columns, against) for against in get_args(Against))
        return tuple(panel for panel in found if panel.lines)

    @property
    def prompts(self) -> int:
        return max((len(subject.prompts) for subject in self.subjects), default=0)


def further_boards(run: Run) -> Iterator[Board]:
    """Boards of the evaluations beside the one that the verdict is made from."""
    for key in run.further:
        yield board(run.on(key), key)


def board(run: Run, key: str) -> Board:
    """Everything that is compared in one evaluation."""
    subjects = subjects_of(run)
    columns = columns_of(subjects)
    return Board(
        key=key,
        run=run,
        subjects=tuple(subjects),
        columns=tuple(columns),
        rows=score_rows(run, subjects),
        matrices=win_matrices(subjects, columns),
        groups=group_tables(run, subjects, columns),
        paper=beside_paper(run, subjects, key),
    )


def _panel(rows: Sequence[ScoreRow], columns: Sequence[Column], against: Against) -> Panel:
    compared = [index for index, column in enumerate(columns) if column.per_prompt]
    lines = []
    for row in rows:
        cells = [next((c for c in row.cells[i].comparisons if c.against == against), None) for i in compared]
        opponent = next((cell.opponent for cell in cells if cell is not None), None)
        if opponent is not None:
            lines.append(PanelLine(row.label, opponent, tuple(cells)))
    return Panel(against, tuple(columns[i] for i in compared), tuple(lines))
