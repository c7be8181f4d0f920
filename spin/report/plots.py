"""Plots of the scores: each metric over the iterations, win rates, held-out error by noise level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from spin.core.statistics import Estimate, Floats
from spin.report import svg
from spin.report.figures import level
from spin.report.reading import Stage
from spin.report.request import Against, Cell, Column, ScoreRow
from spin.report.subjects import DATA

NOISE_LEVELS = 5  # bins where the draws hold more timesteps than that


def score_curves(rows: Sequence[ScoreRow]) -> list[svg.Drawing]:
    """One small plot per metric: models in order, 95 % interval, the real images as a dashed line."""
    models = [row for row in rows if row.name != DATA]
    data = next((row for row in rows if row.name == DATA), None)
    plots = []
    for index, first in enumerate(rows[0].cells if rows else ()):
        points = [(row.label, row.cells[index]) for row in models if row.cells[index].mean is not None]
        if len(points) > 1:
            reference = data.cells[index] if data is not None else None
            plots.append(_score_curve(first.column, points, reference))
    return plots


def win_bars(rows: Sequence[ScoreRow]) -> list[svg.Drawing]:
    """One plot per metric: share of prompts won against the base and against the previous model."""
    plots = []
    for index, first in enumerate(rows[0].cells if rows else ()):
        found: list[tuple[str, dict[Against, Estimate]]] = []
        for row in rows:
            wins = {c.against: c.wins.share for c in row.cells[index].comparisons if c.wins is not None}
            if wins:
                found.append((row.label, wins))
        if found:
            plots.append(_win_bar(first.column, found))
    return plots


def noise_curves(stages: Sequence[Stage]) -> svg.Drawing | None:
    """Held-out error of each model by noise level, relative to the first model: overshoot shows at the right."""
    measured = [stage for stage in stages if stage.evaluation.denoising]
    if len(measured) < 2:
        return None
    first = measured[0]
    curves = [(s.label, relative_errors(s.evaluation.denoising, first.evaluation.denoising)) for s in measured[1:]]

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=svg.MUTED, linewidth=0.9)
        for position, (label, points) in enumerate(curves):
            colour = svg.ramp(position, len(curves))
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=label)
        axes.set(xlabel="timestep (right: more noise)", ylabel=f"change against {first.label}, %")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    drawn = [curve for curve in curves if curve[1]]
    if not drawn:
        return None
    curves = drawn
    return svg.draw(paint, name="noise", title="Held-out error by noise level", size=(4.4, 2.8))


def relative_errors(
    errors: Mapping[tuple[str, int], tuple[int, float]], start: Mapping[tuple[str, int], tuple[int, float]]
) -> list[tuple[float, float]]:
    """(timestep, change in percent) in at most NOISE_LEVELS bins, over the draws both share."""
    shared = sorted(draw for draw in errors if draw in start and errors[draw][0] == start[draw][0])
    steps = np.array([errors[draw][0] for draw in shared], float)
    a, b = np.array([errors[draw][1] for draw in shared]), np.array([start[draw][1] for draw in shared])
    return [
        (float(steps[rows].mean()), 100 * float(a[rows].mean() / b[rows].mean() - 1))
        for rows in noise_bins(steps)
        if b[rows].mean() > 0
    ]


def noise_bins(timesteps: Floats) -> list[npt.NDArray[np.intp]]:
    """Row indices of each noise level, low to high: every timestep of its own, or equal parts of the sorted rows."""
    order = np.argsort(timesteps, kind="stable")
    levels = np.unique(timesteps)
    if len(levels) <= NOISE_LEVELS:
        return [np.flatnonzero(timesteps == step) for step in levels]
    return [part for part in np.array_split(order, NOISE_LEVELS) if len(part)]


def _score_curve(column: Column, points: list[tuple[str, Cell]], reference: Cell | None) -> svg.Drawing:
    scale = 100.0 if column.percent else 1.0
    means = [cell.mean for _, cell in points if cell.mean is not None]
    values, low, high = ([scale * getattr(m, part) for m in means] for part in ("value", "low", "high"))

    def paint(axes: Axes) -> None:
        places = range(len(points))
        if column.per_prompt:
            axes.fill_between(places, low, high, color=svg.ACCENT, alpha=0.16, linewidth=0)
            axes.vlines(places, low, high, color=svg.ACCENT, linewidth=1.1)
        axes.plot(places, values, color=svg.ACCENT, marker="o", markersize=5, markeredgecolor=svg.PAPER)
        _label_models(axes, [label for label, _ in points])
        if reference is not None and reference.mean is not None:
            _mark_reference(axes, scale * reference.mean.value, level(column, reference.mean.value), [*low, *high])

    unit = ", %" if column.percent else ""
    arrow = "lower is better" if column.lower_is_better else "higher is better"
    return svg.draw(paint, name=f"curve-{column.metric}", title=f"{column.title}{unit} ({arrow})")


def _mark_reference(axes: Axes, value: float, text: str, drawn: list[float]) -> None:
    """The real images as a line; where they lie far off, as a note, so that the models keep the scale."""
    reach = 1.2 * (max(drawn) - min(drawn))
    if min(drawn) - reach <= value <= max(drawn) + reach:
        axes.axhline(value, color=svg.MUTED, linewidth=1, linestyle=(0, (3, 2)))
        axes.margins(y=0.14)
        svg.note(axes, f"real images {text}", value)
        return
    above = value > max(drawn)
    arrow = "\N{UPWARDS ARROW}" if above else "\N{DOWNWARDS ARROW}"
    label = axes.text(1, 1 if above else 0.02, f"real images {text} {arrow}", transform=axes.transAxes)
    label.set(ha="right", va="bottom", fontsize=7.5, color=svg.MUTED)


def _label_models(axes: Axes, labels: list[str]) -> None:
    numbered = [label.removeprefix("SPIN ") for label in labels]
    axes.set_xticks(range(len(labels)), numbered if len(labels) > 5 else labels)
    if len(labels) > 5:
        axes.set_xlabel("SPIN iteration")
    axes.set_xlim(-0.3, len(labels) - 0.7)


def _win_bar(column: Column, found: list[tuple[str, dict[Against, Estimate]]]) -> svg.Drawing:
    kinds: list[tuple[Against, str, str]] = [("base", svg.ACCENT, "against base"),
                                             ("previous", svg.MUTED, "against previous model")]  # fmt: skip

    def paint(axes: Axes) -> None:
        for offset, (kind, colour, label) in zip((-0.19, 0.19), kinds, strict=True):
            rows = [(place, wins[kind]) for place, (_, wins) in enumerate(found) if kind in wins]
            places = [place + offset for place, _ in rows]
            shares = [100 * e.value for _, e in rows]
            axes.barh(places, [s - 50 for s in shares], 0.32, left=50, color=colour, alpha=0.75, label=label)
            axes.hlines(places, [100 * e.low for _, e in rows], [100 * e.high for _, e in rows], color=svg.INK, lw=1)
        axes.axvline(50, color=svg.INK, linewidth=0.8)
        axes.set_yticks(range(len(found)), [label for label, _ in found])
        axes.invert_yaxis()
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.set(xlim=(0, 100), xticks=(0, 25, 50, 75, 100), xlabel="prompts won, %")

    height = 1.25 + 0.34 * len(found)
    title = f"Win rate: {column.title.lower() if column.title.istitle() else column.title}"
    return svg.draw(paint, name=f"wins-{column.metric}", title=title, size=(3.8, min(height, 5.0)))


def finite(values: Sequence[float | None]) -> list[float]:
    return [value if value is not None and math.isfinite(value) else math.nan for value in values]
