"""The alarm of reward hacking: one judge rises significantly while another, or the diversity of pictures, falls.

A judge that is trained for can be won without better pictures. That shows where another judge disagrees, or where
a model draws the same picture again and again. Judges are asked by their paired 95 % intervals, unadjusted.
Diversity is asked the same way where an evaluation has it per prompt; a number of the whole set has no interval,
so there a fall of more than FALL counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spin.report.figures import column_name, difference, level, listed, outcome, share
from spin.report.request import Against, Cell, Comparison, ScoreRow
from spin.report.subjects import DIVERSITY

FALL: Final = 0.05  # of the diversity of a whole set; seeds of the miniature differ by 0.4 % (README, sd over seeds)


@dataclass(frozen=True)
class Alarm:
    """What rises and what falls of one model against another: names, and the same with their differences."""

    model: str
    opponent: str
    against: tuple[Against, ...]
    risen: Mapping[str, str]
    fallen: Mapping[str, str]

    @property
    def short(self) -> str:
        return f"Reward-hacking alarm: {listed(list(self.risen))} up, {listed(list(self.fallen))} down."

    @property
    def whole(self) -> str:
        gains, losses = (
            listed([f"{name} by {size}" for name, size in found.items()]) for found in (self.risen, self.fallen)
        )
        return f"{self.model} gains on {self.opponent} on {gains}, but falls behind it on {losses}."


def alarms(rows: Sequence[ScoreRow]) -> tuple[Alarm, ...]:
    """Every alarm, model by model; one for each opponent."""
    return tuple(alarm for row in rows for alarm in _of(row, rows))


def alarm_of(rows: Sequence[ScoreRow], model: str, against: Against) -> Alarm | None:
    """The alarm of one model, by its label, against one kind of opponent."""
    return next((alarm for alarm in alarms(rows) if alarm.model == model and against in alarm.against), None)


def _of(row: ScoreRow, rows: Sequence[ScoreRow]) -> Iterator[Alarm]:
    kinds: dict[str, list[Against]] = {}
    for each in (compared for cell in row.cells for compared in cell.comparisons):
        if each.against not in kinds.setdefault(each.opponent, []):
            kinds[each.opponent].append(each.against)
    for opponent, against in kinds.items():
        pairs = [(cell, found) for cell in row.cells if (found := _against(cell, opponent)) is not None]
        judged = [pair for pair in pairs if pair[0].column.kind == "judge"]
        risen = dict(_named(*pair) for pair in judged if _outcome(*pair) == "better")
        fallen = dict(_named(*pair) for pair in judged if _outcome(*pair) == "worse")
        fallen |= _diversity(row, next((other for other in rows if other.label == opponent), None), pairs)
        if risen and fallen:
            yield Alarm(row.label, opponent, tuple(against), risen, fallen)


def _diversity(row: ScoreRow, other: ScoreRow | None, pairs: Sequence[tuple[Cell, Comparison]]) -> dict[str, str]:
    """The fall of diversity, by its interval where it has one."""
    for cell, found in pairs:
        if cell.column.metric == DIVERSITY:
            return dict([_named(cell, found)]) if _outcome(cell, found) == "worse" else {}
    mine, theirs = _cell(row), _cell(other)
    if mine is None or theirs is None or mine.mean is None or theirs.mean is None:
        return {}
    before, now = theirs.mean.value, mine.mean.value
    if before <= 0 or now >= before * (1 - FALL):
        return {}
    column = mine.column
    return {column_name(column): f"{share(1 - now / before)} ({level(column, before)} to {level(column, now)})"}


def _cell(row: ScoreRow | None) -> Cell | None:
    return next((cell for cell in row.cells if cell.column.metric == DIVERSITY), None) if row is not None else None


def _against(cell: Cell, opponent: str) -> Comparison | None:
    return next((found for found in cell.comparisons if found.opponent == opponent), None)


def _outcome(cell: Cell, found: Comparison) -> str:
    return outcome(cell.column, found)


def _named(cell: Cell, found: Comparison) -> tuple[str, str]:
    return column_name(cell.column), difference(cell.column, found.difference)
