"""Fills the page: everything that the template shows, computed here; the template only places it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from spin.report import figures
from spin.report.advice import advise
from spin.report.alarm import alarms
from spin.report.boards import Board
from spin.report.costs import cost_table
from spin.report.drawings import Drawings
from spin.report.exports import Export
from spin.report.figures import difference, level, outcome
from spin.report.gallery import Gallery, compared, gains
from spin.report.groups import SMALLEST
from spin.report.paper import METRICS
from spin.report.pictures import Grid
from spin.report.provenance import Spent, config_lines, lineage, prompt_count, protocol, time_shares, time_spent
from spin.report.reading import Run
from spin.report.request import Against, Column, ScoreRow
from spin.report.safety import looked_at
from spin.report.scoring import RESAMPLES, convergence, title
from spin.report.stages import unfinished
from spin.report.subjects import DATA, DENOISING, averaged
from spin.report.verdict import against_start, final_row
from spin.report.votes import tallies

_AGAINST: Final[dict[Against, str]] = {
    "previous": "the previous model", "base": "the base model", "start": "the start of the game",
}  # fmt: skip


def render_page(
    *,
    run: Run,
    boards: Sequence[Board],
    drawings: Drawings,
    verdict: str,
    grid: Grid | None,
    gallery: Gallery | None,
    files: Sequence[Export],
) -> str:
    """The whole page; the first board is the one that the verdict is made from."""
    context = _context(run, boards[0], drawings, verdict)
    pictures = {"grid": grid, "gallery": gallery, "gains": gains(boards[0]), "compared": compared(boards[0])}
    shown = _pictures_shown(grid, gallery)
    more = {"boards": boards, "costs": cost_table(run), "files": files, "shown": shown, "votes": tallies(run)}
    return _template().render(context | pictures | more)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("spin.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"duration": figures.duration, "count": figures.count, "number": figures.number}
    environment.globals |= {"fig": figures, "data": DATA, "against": _AGAINST, "metrics": list(METRICS),
                            "smallest": SMALLEST, "title": title}  # fmt: skip
    return environment.get_template("page.html.j2")


def _context(run: Run, board: Board, drawings: Drawings, verdict: str) -> dict[str, Any]:
    rows, columns, spent = board.rows, board.columns, time_spent(run)
    return {
        "css": Markup(_asset("page.css")),  # noqa: S704 - our own file
        "js": Markup(_asset("page.js")),  # noqa: S704
        "run": run, "record": run.record, "verdict": verdict, "status": unfinished(run), "tiles": _tiles(rows, spent),
        "columns": columns, "rows": rows, "alarms": alarms(rows), "largest": _largest(columns, rows),
        "reach": advise(rows), "resamples": RESAMPLES, "protocol": protocol(run), "prompts": prompt_count(run),
        "drawings": drawings, "convergence": _convergence(run, columns),
        "scorers": {column.metric: column for column in columns}, "spent": spent, "shares": time_shares(spent),
        "lineage": lineage(run), "config": list(config_lines(run.record.get("config") or {})),
        "looked_at": looked_at(run), "quarantined": run.record.get("quarantined") or {},
        "dropped": run.record.get("dropped") or {}, "buckets": run.record.get("buckets") or {},
        "versions": run.record.get("versions") or {},
    }  # fmt: skip


def _pictures_shown(grid: Grid | None, gallery: Gallery | None) -> int:
    """Pictures inside the page."""
    cells = [picture for row in grid.rows for picture in row.pictures if picture is not None] if grid else []
    return len(cells) + (len(gallery.exhibits) if gallery else 0)


def _tiles(rows: Sequence[ScoreRow], spent: Sequence[Spent]) -> list[dict[str, str]]:
    """Key figures: the last model's metrics with their change since the start, then the time."""
    final = final_row(rows)
    tiles = []
    for cell in final.cells if final else ():
        if cell.mean is None or cell.column.kind == "average":
            continue
        comparison = against_start(cell)
        note, tone = cell.column.direction, "plain"
        if comparison is not None:
            tone = outcome(cell.column, comparison)
            note = f"{difference(cell.column, comparison.difference)} against {comparison.opponent}"
        value = level(cell.column, cell.mean.value)
        tiles.append({"title": cell.column.title, "value": value, "note": note, "tone": tone})
    if spent:
        seconds = sum(row.seconds for row in spent)
        sampled = sum(row.images or 0 for row in spent if row.kind == "sampling")
        note = f"{figures.count(sampled)} images sampled" if sampled else "whole run"
        tiles.append({"title": "Time", "value": figures.duration(seconds), "note": note, "tone": "plain"})
    return tiles


def _largest(columns: Sequence[Column], rows: Sequence[ScoreRow]) -> tuple[str, float] | None:
    """Title of the judge that makes up most of the plain average of the first model, and its share of it."""
    model = next((row for row in rows if row.name != DATA), None)
    judges = averaged([column.metric for column in columns if column.kind == "judge"])
    cells = [cell for cell in model.cells if cell.column.metric in judges and cell.mean] if model else []
    levels = {cell.column.title: abs(cell.mean.value) for cell in cells if cell.mean}
    if not levels or not sum(levels.values()):
        return None
    largest = max(levels, key=lambda name: levels[name])
    return largest, levels[largest] / sum(levels.values())


def _convergence(run: Run, columns: Sequence[Column]) -> list[dict[str, Any]]:
    column = next((column for column in columns if column.metric == DENOISING), None)
    lines = []
    for stage in run.stages if column is not None else ():
        found = convergence(run, stage)
        if found is None or column is None:
            continue
        opponent, their_level, comparison = found
        lines.append({
            "label": stage.label, "opponent": opponent, "plays": "yes" if stage.plays else "",
            "mine": level(column, their_level + comparison.difference.value), "theirs": level(column, their_level),
            "relative": f"{figures.signed_percent(comparison.difference.value / their_level)}" if their_level else "",
            "comparison": comparison, "column": column,
        })  # fmt: skip
    return lines


def _asset(name: str) -> str:
    return (files("spin.report") / name).read_text("utf-8")
