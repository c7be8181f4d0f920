"""The score table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spin.report.figures import INDISTINCT, NOTHING, bounded_share, interval, level, outcome, signed
from spin.report.request import Cell, Column, ReportResult, ScoreRow
from spin.report.subjects import DENOISING
from spin.report.verdict import against_start
from spin.report.votes import Tally

_WIDE = 3  # columns whose intervals have a line each
_LABEL = 10  # characters; longer names of models are folded
_STYLES = {"better": "green", "worse": "red", "same": "dim"}


def print_table(result: ReportResult, console: Console) -> None:
    """Score table, differences to the start, verdict, and where the page lies; both tables fit 80 columns."""
    if result.rows and result.rows[0].cells:
        console.print(terminal_table(result.rows))
        compared = difference_table(result.rows)
        if compared is not None:
            console.print(compared)
    console.print(Text(result.verdict, style="bold"))
    if result.page is not None:
        console.print(Text(f"report: {result.page}"), soft_wrap=True)


def print_votes(found: Sequence[Tally], console: Console) -> None:
    """Votes of people, model by model, then how often each judge agrees with them."""
    votes = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left",
                  caption="share of decided votes, Wilson's 95 % interval")  # fmt: skip
    agreement = Table(title="agreement of judges with people", title_justify="left", box=SIMPLE_HEAD)
    headings = ("model", "opponent", "prompts", "won", "share", "cannot say", "voters")
    for table, names in ((votes, headings), (agreement, ("judge", "model", "opponent", "agrees", "share"))):
        for name in names:
            table.add_column(name, no_wrap=name in ("won", "share", "agrees"))
    for row in found:
        share = NOTHING if row.share is None else bounded_share(row.share)
        won, models = f"{row.wins} of {row.decided}", (Text(row.second), Text(row.first))
        votes.add_row(*models, row.evaluation, won, Text(share), str(row.undecided), str(len(row.voters)))
        for judge in row.agreement:
            same = f"{judge.same} of {judge.votes}"
            agreement.add_row(judge.judge, *models, same, Text(bounded_share(judge.share)))
    console.print(votes)
    if agreement.row_count:
        console.print(agreement)


def terminal_table(rows: Sequence[ScoreRow]) -> Table:
    """Means of every model, the best of a column marked."""
    table = Table(caption="* best of its column", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 0))
    table.add_column("model", overflow="fold", min_width=_LABEL)
    shown = [i for i, cell in enumerate(rows[0].cells) if cell.column.kind != "average"]
    for i in shown:
        table.add_column(Text(_heading(rows[0].cells[i].column)), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(row.label), *(_mean(row.cells[i]) for i in shown))
    return table


def difference_table(rows: Sequence[ScoreRow]) -> Table | None:
    """Difference of each model to the start of the game with its interval; None where nothing is compared."""
    compared = [row for row in rows if any(against_start(cell) for cell in row.cells)]
    if not compared:
        return None
    caption = "paired over prompts, 95 % interval per metric; the start itself is compared with the base"
    title = "minus the start of the game"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("model", overflow="fold", min_width=_LABEL)
    asked = [cell.column.kind == "judge" or cell.column.metric == DENOISING for cell in compared[-1].cells]
    paired = [i for i, cell in enumerate(compared[-1].cells) if against_start(cell) and asked[i]]
    for i in paired:
        table.add_column(Text(_heading(compared[-1].cells[i].column)), justify="right", no_wrap=True)
    narrow = len(paired) > _WIDE
    for row in compared:
        table.add_row(Text(row.label), *(_difference(row.cells[i], narrow=narrow) for i in paired))
    return table


def _heading(column: Column) -> str:
    return "\n".join(column.title.lower().split()) + ("\n(lower)" if column.lower_is_better else "")


def _mean(cell: Cell) -> Text:
    text = Text(level(cell.column, cell.mean.value if cell.mean else None), style="bold" if cell.best else "")
    return text.append("*" if cell.best else " ")


def _difference(cell: Cell, *, narrow: bool) -> Text:
    """Difference, interval, and in words where it is none; the parts below each other: tables fit 80 columns."""
    comparison = against_start(cell)
    if comparison is None:
        return Text("")
    tone = outcome(cell.column, comparison)
    bounds = interval(cell.column, comparison.difference)
    lines = [signed(cell.column, comparison.difference.value), bounds.replace(", ", ",\n") if narrow else bounds]
    if tone == "same":
        lines += (INDISTINCT.replace("distin", "distin-\n") if narrow else INDISTINCT.replace(" ", "\n")).split("\n")
    return Text("\n".join(lines), style=_STYLES[tone])
