"""One sentence on the run in plain words: last model against its start, from paired intervals only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from spin.report.alarm import alarm_of
from spin.report.figures import column_name, difference, level, listed, outcome
from spin.report.reading import Run
from spin.report.request import Cell, Column, Comparison, ScoreRow
from spin.report.subjects import DATA, DENOISING

Compared = tuple[Column, Comparison]
Pick = Callable[[ScoreRow, Cell], Comparison | None]


def final_row(rows: Sequence[ScoreRow]) -> ScoreRow | None:
    """The last model that was measured."""
    models = [row for row in rows if row.name != DATA and any(cell.mean is not None for cell in row.cells)]
    return models[-1] if models else None


def against_start(cell: Cell) -> Comparison | None:
    """Comparison with the model the game began from; where that is the base, with the base."""
    by_kind = {comparison.against: comparison for comparison in cell.comparisons}
    return by_kind.get("start") or by_kind.get("base")


def minus_before(_: ScoreRow, cell: Cell) -> Comparison | None:
    """Comparison with the model before; None for a base."""
    return next((comparison for comparison in cell.comparisons if comparison.against == "previous"), None)


def minus_start(row: ScoreRow, cell: Cell) -> Comparison | None:
    """Comparison of an iteration's model with the start of the game; None for the others."""
    return against_start(cell) if row.name.startswith("iteration-") else None


OPPONENTS: Final[tuple[tuple[str, Pick], ...]] = (("the model before", minus_before), ("the start", minus_start))


def verdict(run: Run, rows: Sequence[ScoreRow]) -> str:
    final = final_row(rows)
    if final is None:
        return "No model of this run has been scored yet."
    compared = [(cell.column, found) for cell in final.cells if (found := against_start(cell)) is not None]
    judged = [pair for pair in compared if pair[0].kind == "judge"]
    judged = judged or [pair for pair in compared if pair[0].metric == DENOISING]
    if judged:
        alarm = alarm_of(rows, final.label, judged[0][1].against)
        said = _sentence(final.label, _opponent_name(run, judged[0][1].opponent), judged)
        return f"{said} {alarm.short}" if alarm is not None else said
    start = next((row for row in rows if run.start is not None and row.name == run.start.name), None)
    sets = _set_values(final, start) if start is not None and start.name != final.name else []
    if start is not None and sets:
        return f"{final.label} stands beside {_opponent_name(run, start.label)} with {listed(sets)}; no paired scores."
    return f"{final.label} is the only model scored so far; there is nothing to compare it with yet."


def _sentence(model: str, opponent: str, compared: list[Compared]) -> str:
    gains = [_gain(pair) for pair in compared if outcome(*pair) == "better"]
    losses = [_gain(pair) for pair in compared if outcome(*pair) == "worse"]
    ties = [column_name(column) for column, comparison in compared if outcome(column, comparison) == "same"]
    if not gains and not losses:
        return f"{model} is not distinguishable from {opponent} on {listed(ties, last='or')}."
    parts = []
    if gains:
        parts.append(f"{model} beats {opponent} on {listed(gains)}")
    if losses:
        parts.append(
            f"{'it falls' if gains else f'{model} falls'} behind {'' if gains else opponent + ' '}on {listed(losses)}"
        )
    if ties:
        parts.append(f"{listed(ties)} {'is' if len(ties) == 1 else 'are'} not distinguishable")
    return "; ".join(parts) + "."


def _gain(pair: Compared) -> str:
    column, comparison = pair
    return f"{column_name(column)} by {difference(column, comparison.difference)}"


def _set_values(final: ScoreRow, start: ScoreRow) -> list[str]:
    pairs = zip(final.cells, start.cells, strict=True)
    return [
        f"{column_name(a.column)} {level(a.column, a.mean.value)} against {level(b.column, b.mean.value)}"
        for a, b in pairs
        if a.mean is not None and b.mean is not None
    ]


def _opponent_name(run: Run, label: str) -> str:
    plays = any(stage.plays for stage in run.stages)
    is_start = plays and run.start is not None and run.start.label == label
    return f"the {label} start" if is_start and run.start is not run.stages[0] else f"the {label} model"
