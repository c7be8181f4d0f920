"""Fills the page: everything that the template shows, computed here; the template only places it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spin.report import figures
from spin.report.advice import advise
from spin.report.alarm import alarms
from spin.report.figures import difference, level, outcome
from spin.report.pictures import Grid
from spin.report.plots import noise_curves, score_curves, win_bars
from spin.report.provenance import Spent, config_lines, lineage, prompt_count, protocol, time_shares, time_spent
from spin.report.reading import Run
from spin.report.request import Against, Column, Comparison, ScoreRow
from spin.report.scoring import RESAMPLES, convergence
from spin.report.stages import unfinished
from spin.report.subjects import DATA, DENOISING, averaged
from spin.report.training_plots import held_out_curves, training_curves
from spin.report.verdict import against_start, final_row

_AGAINST: Final[tuple[tuple[Against, str], ...]] = (
    ("previous", "the previous model"), ("base", "the base model"), ("start", "the start of the game"),
)  # fmt: skip
_WORDS: Final = {"better": "better", "worse": "worse", "same": figures.INDISTINCT}


def render_page(*, run: Run, rows: Sequence[ScoreRow], verdict: str, grid: Grid | None) -> str:
    environment = Environment(
        loader=PackageLoader("spin.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"duration": figures.duration, "count": figures.count, "number": figures.number}
    return environment.get_template("page.html.j2").render(_context(run, rows, verdict, grid))


def _context(run: Run, rows: Sequence[ScoreRow], verdict: str, grid: Grid | None) -> dict[str, Any]:
    columns = [cell.column for cell in rows[0].cells] if rows else []
    spent = time_spent(run)
    return {
        "css": Markup(_asset("page.css")),  # noqa: S704 - our own file
        "js": Markup(_asset("page.js")),  # noqa: S704
        "run": run, "record": run.record, "verdict": verdict, "status": unfinished(run), "tiles": _tiles(rows, spent),
        "columns": columns, "rows": rows, "data": DATA, "level": level, "nothing": figures.NOTHING,
        "interval": figures.interval, "comparisons": _comparisons(columns, rows), "alarms": alarms(rows),
        "largest": _largest(columns, rows), "reach": advise(rows), "resamples": RESAMPLES,
        "protocol": protocol(run), "prompts": prompt_count(run), "curves": score_curves(rows), "bars": win_bars(rows),
        "training": training_curves(run.stages), "held_out": held_out_curves(run.stages),
        "noise": noise_curves(run.stages), "convergence": _convergence(run, columns), "grid": grid,
        "scorers": {column.metric: column for column in columns}, "spent": spent, "shares": time_shares(spent),
        "lineage": lineage(run), "config": list(config_lines(run.record.get("config") or {})),
        "quarantined": run.record.get("quarantined") or {}, "versions": run.record.get("versions") or {},
    }  # fmt: skip


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
        title, value = cell.column.title, level(cell.column, cell.mean.value)
        tiles.append({"title": title, "value": value, "note": note, "tone": tone})
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
    title = max(levels, key=lambda name: levels[name])
    return title, levels[title] / sum(levels.values())


def _comparisons(columns: Sequence[Column], rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    """One panel per kind of opponent: model x metric with difference, interval, outcome and wins."""
    panels = []
    for against, title in _AGAINST:
        lines = []
        for row in rows:
            found = [next((c for c in cell.comparisons if c.against == against), None) for cell in row.cells]
            opponent = next((c.opponent for c in found if c is not None), None)
            if opponent is not None:
                shown = [_shown(column, c) for column, c in zip(columns, found, strict=True) if column.per_prompt]
                lines.append({"label": row.label, "opponent": opponent, "cells": shown})
        if lines:
            paired = [column for column in columns if column.per_prompt]
            panels.append({"against": against, "title": title, "columns": paired, "lines": lines})
    return panels


def _shown(column: Column, comparison: Comparison | None) -> dict[str, str] | None:
    if comparison is None:
        return None
    tone = outcome(column, comparison)
    wins, tally = (
        ("", "") if comparison.wins is None else (figures.wins(comparison.wins), figures.tally(comparison.wins))
    )
    value = figures.signed(column, comparison.difference.value)
    bounds = figures.interval(column, comparison.difference)
    return {"value": value, "interval": bounds, "tone": tone, "word": _WORDS[tone], "wins": wins, "tally": tally,
            "missing": str(comparison.missing or "")}  # fmt: skip


def _convergence(run: Run, columns: Sequence[Column]) -> list[dict[str, str]]:
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
            **(_shown(column, comparison) or {}),
        })  # fmt: skip
    return lines


def _asset(name: str) -> str:
    return (files("spin.report") / name).read_text("utf-8")
