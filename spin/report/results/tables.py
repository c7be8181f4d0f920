"""The tables of a comparison as Markdown, in the paper's layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import fsum
from typing import Any, Final

from spin.core.recipe import AVERAGE, BASE
from spin.report.figures import NOTHING, bounded_share, count, difference, figures, level, number
from spin.report.markdown import escape, table
from spin.report.request import Column
from spin.report.results.claims import column_of
from spin.report.results.facts import Row, StageFacts
from spin.report.results.study import Study
from spin.report.scoring import column_for
from spin.report.subjects import DENOISING

_SETS: Final = ("frechet_clean", "frechet")
_PEAK: Final = "peak MiB of its process"
_LOGGED: Final = ("accuracy", "jensen_gap", "loser_scale")


def means(study: Study) -> str:
    """Mean over seeds and prompts, in brackets the standard deviation over seeds."""
    judged = [column_of(study, metric) for metric in (*study.judges, AVERAGE)]
    sets = [column_for(metric, values) for metric in _SETS if (values := _set_values(study, metric))]
    loss = [column_of(study, DENOISING)] if study.mean(BASE, DENOISING) else []
    many = len(study.facts.recipe.seeds) > 1

    def cell(row: Row, column: Column, found: tuple[float, float] | None) -> str:
        if found is None:
            return NOTHING
        spread = f" ({number((100 if column.percent else 1) * found[1], 1 if column.percent else column.digits)})"
        return level(column, found[0]) + (spread if many and row.has_seeds else "")

    lines = [
        [
            escape(row.label),
            *(cell(row, column, study.mean(row.row, column.metric)) for column in [*judged, *loss]),
            *(cell(row, column, study.set_metric(row, column.metric)) for column in sets),
        ]
        for row in study.rows
    ]
    return table(["mean", *(column.title for column in [*judged, *loss, *sets])], lines)


def medians(study: Study) -> str:
    """Median over prompts; a share of right and wrong has none."""
    columns = [c for metric in (*study.judges, AVERAGE) if not (c := column_of(study, metric)).percent]
    lines = [
        [escape(row.label), *(level(column, study.median(row.row, column.metric)) for column in columns)]
        for row in study.rows
    ]
    return table(["median", *(column.title for column in columns)], lines)


def win_rates(study: Study, other: Row) -> str:
    """Share of prompts on which each row beats one of them; 50 % is a draw."""

    def cell(row: Row, column: Column) -> str:
        found = study.wins(row.row, other.row, column.metric)
        return NOTHING if found is None else bounded_share(found)

    return _against(study, other, "win rate", cell)


def differences(study: Study, other: Row) -> str:
    """Each row minus one of them, paired over prompts and seeds."""

    def cell(row: Row, column: Column) -> str:
        found = study.difference(row.row, other.row, column.metric)
        return NOTHING if found is None else difference(column, found.estimate)

    return _against(study, other, "difference", cell)


def costs(study: Study) -> str:
    """What each row took: counted before, measured after."""
    measure = study.row(study.facts.recipe.measure)
    unit = study.spent(measure) if measure else None
    lines, alone = [], study.tells_memory
    for row in study.rows:
        spent = study.spent(row)
        if spent is None:
            continue
        seconds = spent["train_seconds"] + spent["sample_seconds"]
        whole = unit and unit["train_seconds"] + unit["sample_seconds"]
        planned = _planned(study, row)
        lines.append([
            escape(row.label), escape(row.budget), count(spent["images"]), count(spent["sampled"]), planned,
            figures(spent["train_seconds"]), figures(spent["sample_seconds"]),
            number(seconds / whole, 2) if whole else NOTHING, *([_mebibytes(spent["peak_bytes"])] if alone else []),
        ])  # fmt: skip
    header = [
        "cost, mean over seeds", "budget", "training images", "sampled images", "planned time", "training s",
        "sampling s", "time, x the measure's", *([_PEAK] if alone else []),
    ]  # fmt: skip
    return table(header, lines)


def settings(study: Study) -> str:
    """What each arm sets beside what all share, and the steps that its budget gave."""
    lines = []
    for name in study.facts.recipe.trained:
        runs, arm = study.facts.runs_of(name), study.facts.recipe.arms[name]
        solved = runs[0].settings.get("solved", ()) if runs else ()
        own = ", ".join(f"`{text}`" for text in (*_flat(arm.settings), *solved))
        lines.append([escape(arm.label), own or NOTHING])
    return table(["arm", "its own settings"], lines)


def training(study: Study) -> str:
    """How the last stage of each row went, by the last steps of its log; held-out error at the noisiest level."""
    lines, alone = [], study.tells_memory
    for row in study.rows:
        stages = [stage for stage in study.stages(row) if stage.training]
        if not stages:
            continue
        late = _mean([ratio for stage in stages for ratio in _late(stage)])
        cells = (_mean([stage.training.get(name) for stage in stages]) for name in _LOGGED)
        each = _mean([1000 * stage.train_seconds / stage.images if stage.images else None for stage in stages])
        lines.append([
            escape(row.label), figures(each), *(number(cell, 3) for cell in cells), number(late, 2),
            *([_mebibytes(stages[0].peak_bytes)] if alone else []),
        ])  # fmt: skip
    header = [
        "last stage", "ms a training image", "implicit accuracy", "Jensen gap", "safeguard's factor",
        "held-out error at high noise, x its start", *([_PEAK] if alone else []),
    ]  # fmt: skip
    return table(header, lines) if lines else ""


def _mebibytes(peak: float | None) -> str:
    return figures(peak / 2**20) if peak else NOTHING


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}={json.dumps(value)}"


def _late(stage: StageFacts) -> list[float]:
    """Error over its start at the noisiest level that was measured."""
    levels = sorted(stage.held_out, key=int)
    return [stage.held_out[levels[-1]]] if levels else []


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fsum(present) / len(present) if present else None


def _planned(study: Study, row: Row) -> str:
    """Counted device time in units of the measure's; of an arm's last model only."""
    runs, measured = study.facts.runs_of(row.arm), study.facts.runs_of(study.facts.recipe.measure)
    if not row.last or not runs or not measured or not measured[0].planned.get("time"):
        return NOTHING
    return number(runs[0].planned["time"] / measured[0].planned["time"], 2)


def _against(study: Study, other: Row, what: str, cell: Callable[[Row, Column], str]) -> str:
    columns = [column_of(study, metric) for metric in (*study.judges, AVERAGE)]
    rows = [row for row in study.rows if row != other]
    lines = [[escape(row.label), *(cell(row, column) for column in columns)] for row in rows]
    return table([f"{what} over {escape(other.label)}", *(column.title for column in columns)], lines)


def _set_values(study: Study, metric: str) -> Sequence[float]:
    found = (study.set_metric(row, metric) for row in study.rows)
    return [value[0] for value in found if value is not None]
