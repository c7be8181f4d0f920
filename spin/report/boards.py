"""One board for each evaluation of a run: the paper's tables for that benchmark and protocol, and for no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spin.report.groups import GroupTable, group_tables
from spin.report.matrix import Matrix, win_matrices
from spin.report.paper import PaperLine, beside_paper
from spin.report.reading import Run
from spin.report.request import Column, ScoreRow
from spin.report.scoring import columns_of, score_rows
from spin.report.subjects import Subject, subjects_of


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
    def prompts(self) -> int:
        return max((len(subject.prompts) for subject in self.subjects), default=0)


def boards(run: Run) -> Iterator[Board]:
    """The evaluation that the verdict is made from, then the further ones."""
    yield board(run, run.key)
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
