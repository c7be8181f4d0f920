"""Every model against every other, and against the real images: prompts won, on the average and judge by judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spin.core.comparison import WinRate, win_rate
from spin.report.request import Column
from spin.report.scoring import shared_values
from spin.report.subjects import Subject


@dataclass(frozen=True)
class Matrix:
    """Win rates of one metric; a row plays against the columns."""

    column: Column
    labels: tuple[str, ...]
    cells: tuple[tuple[WinRate | None, ...], ...]  # None against oneself, and where no prompt is shared


def win_matrices(subjects: Sequence[Subject], columns: Sequence[Column]) -> tuple[Matrix, ...]:
    """The average first, as in the paper; then each judge."""
    asked = sorted((column for column in columns if column.kind != "measure"), key=lambda c: c.kind != "average")
    return tuple(matrix for column in asked if (matrix := _matrix(column, subjects)) is not None)


def _matrix(column: Column, subjects: Sequence[Subject]) -> Matrix | None:
    """None where fewer than two were judged."""
    judged = [subject for subject in subjects if subject.values.get(column.metric)]
    if len(judged) < 2:
        return None
    cells = tuple(tuple(_won(column.metric, mine, other) for other in judged) for mine in judged)
    return Matrix(column, tuple(subject.label for subject in judged), cells)


def _won(metric: str, mine: Subject, other: Subject) -> WinRate | None:
    prompts, a, b = shared_values(metric, mine, other)
    return win_rate(a, b) if mine is not other and prompts else None
