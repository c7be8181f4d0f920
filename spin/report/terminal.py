"""The score table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spin.report.figures import interval, level, outcome, signed, wins
from spin.report.request import Cell, Column, ReportResult, ScoreRow
from spin.report.verdict import against_start

_STYLES = {"better": "green", "worse": "red", "same": "dim"}


def print_table(result: ReportResult, console: Console) -> None:
    """Score table, verdict, and where the page lies."""
    if result.rows and result.rows[0].cells:
        console.print(terminal_table(result.rows))
    console.print(Text(result.verdict, style="bold"))
    console.print(Text(f"report: {result.page}"), soft_wrap=True)


def terminal_table(rows: Sequence[ScoreRow]) -> Table:
    """Means, the best of a column marked; under them the difference to the start with its 95 % interval."""
    compared = any(against_start(cell) for row in rows for cell in row.cells)
    caption = "* best of its column; below: difference to the start of the game (that one: to the base), 95 % interval"
    table = Table(caption=caption if compared else None, caption_justify="left", show_lines=compared)
    table.add_column("model", no_wrap=True)
    for column in rows[0].cells:
        table.add_column(Text(_heading(column.column)), justify="right")
    for row in rows:
        table.add_row(Text(row.label), *(_cell(cell) for cell in row.cells))
    return table


def _heading(column: Column) -> str:
    return f"{column.title}\n(lower is better)" if column.lower_is_better else column.title


def _cell(cell: Cell) -> Text:
    text = Text(level(cell.column, cell.mean.value if cell.mean else None), style="bold" if cell.best else "")
    if cell.best:
        text.append(" *")
    comparison = against_start(cell)
    if comparison is not None:
        note = f"{signed(cell.column, comparison.difference.value)}\n{interval(cell.column, comparison.difference)}"
        if comparison.wins is not None:
            note += f"\nwins {wins(comparison.wins)}"
        text.append(f"\n{note}", style=f"not bold {_STYLES[outcome(cell.column, comparison)]}")
    return text
