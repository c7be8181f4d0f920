"""How far the prompts of a run reach: what their number can show, and how many prompts an observed effect needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spin.report.figures import MINUS, column_name, count, difference, outcome, signed, tally, wins
from spin.report.request import Column, Comparison, ScoreRow
from spin.report.verdict import against_start, final_row


@dataclass(frozen=True)
class Advice:
    """One judge's line, last model against its start, ready to be shown."""

    title: str
    name: str  # inside a sentence
    difference: str
    tone: str  # better, worse or same
    prompts: str
    missing: int
    wins: str  # won / tied / lost
    share: str
    smallest: str
    needed: str  # empty where no effect was seen

    @property
    def sentence(self) -> str:
        left = f" ({self.missing} left out)" if self.missing else ""
        said = f"{self.prompts} prompts{left}, {self.wins} won, tied and lost, share {self.share}; they show"
        needed = f"; one as large as observed needs about {self.needed}" if self.tone == "same" and self.needed else ""
        return f"{self.title}: {said} a difference of {self.smallest} four times in five{needed}."


def advise(rows: Sequence[ScoreRow]) -> tuple[str, list[Advice]]:
    """(model against opponent, a line per judge and average) of the last model; empty without a comparison."""
    final = final_row(rows)
    if final is None:
        return "", []
    found = [(cell.column, against_start(cell)) for cell in final.cells if cell.column.kind != "measure"]
    lines = [_line(column, compared) for column, compared in found if compared is not None]
    opponent = next((compared.opponent for _, compared in found if compared is not None), "")
    return f"{final.label} against {opponent}", [line for line in lines if line is not None]


def _line(column: Column, compared: Comparison) -> Advice | None:
    size, won = compared.size, compared.wins
    if size is None or won is None:
        return None
    return Advice(
        title=column.title,
        name=column_name(column),
        difference=difference(column, compared.difference),
        tone=outcome(column, compared),
        prompts=count(size.prompts),
        missing=compared.missing,
        wins=tally(won),
        share=wins(won),
        smallest=signed(column, size.smallest).lstrip(f"+{MINUS}"),
        needed="" if size.needed is None else count(size.needed),
    )
