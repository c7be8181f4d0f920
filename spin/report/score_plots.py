"""Plots of judges: their profile of each model, the spread of their scores, and scores over images trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from spin.core.comparison import z_average
from spin.core.statistics import Floats
from spin.report import svg
from spin.report.figures import count
from spin.report.request import Cell, Column, ScoreRow
from spin.report.subjects import DATA, Z_AVERAGE, Subject

BINS = 24
_SPOKES = 3  # fewer make no shape


def radar(subjects: Sequence[Subject], columns: Sequence[Column]) -> svg.Drawing | None:
    """Each judge's mean in standard deviations of the base, model by model; None for fewer than three judges."""
    judges = [column for column in columns if column.kind == "judge"]
    profiles = judge_profiles(subjects, [column.metric for column in judges])
    spokes = [column for column in judges if all(column.metric in profile for profile in profiles.values())]
    if len(spokes) < _SPOKES or len(profiles) < 2:
        return None
    values = {label: [profile[column.metric] for column in spokes] for label, profile in profiles.items()}

    def paint(axes: Axes) -> None:
        _paint_radar(axes, [column.title for column in spokes], values)

    title = "Judges' means, in standard deviations of the base"
    return svg.draw(paint, name="radar", title=title, size=(4.6, 3.4))


def judge_profiles(subjects: Sequence[Subject], judges: Sequence[str]) -> dict[str, dict[str, float]]:
    """Model -> judge -> mean z against the base; a judge without spread on the base is left out."""
    models = [subject for subject in subjects if subject.stage is not None]
    profiles: dict[str, dict[str, float]] = {}
    for model in models:
        for judge in judges:
            mine, base = (list(subject.values.get(judge, {}).values()) for subject in (model, models[0]))
            z = float(z_average({judge: mine}, {judge: base}).mean()) if mine and base else math.nan
            if math.isfinite(z):
                profiles.setdefault(model.label, {})[judge] = z
    return profiles


def histograms(subjects: Sequence[Subject], columns: Sequence[Column]) -> list[svg.Drawing]:
    """A plot per judge, a ridge per model over the same bins; shares of right and wrong have no shape to show."""
    plots = []
    for column in columns:
        found = {
            s.label: np.array(list(s.values[column.metric].values())) for s in subjects if s.values.get(column.metric)
        }
        if column.kind == "judge" and not column.percent and found:
            plots.append(_ridges(column, found))
    return plots


def image_curves(rows: Sequence[ScoreRow], images: Mapping[str, int]) -> list[svg.Drawing]:
    """A plot per judge: mean score over the images that a model was trained on, its own and those of its ancestors.

    Args:
        images: by stage name, cumulative.
    """
    plots = []
    for index, first in enumerate(rows[0].cells if rows else ()):
        points = [(images[r.name], r.cells[index]) for r in rows if r.name in images and r.cells[index].mean]
        if len(points) > 1 and (first.column.kind == "judge" or first.column.metric == Z_AVERAGE):
            plots.append(_image_curve(first.column, points))
    return plots


def _image_curve(column: Column, points: Sequence[tuple[int, Cell]]) -> svg.Drawing:
    scale = 100.0 if column.percent else 1.0
    means = [cell.mean for _, cell in points if cell.mean is not None]
    places = [place for place, _ in points]

    def paint(axes: Axes) -> None:
        low, high = [scale * mean.low for mean in means], [scale * mean.high for mean in means]
        axes.vlines(places, low, high, color=svg.ACCENT, linewidth=1.1)
        values = [scale * mean.value for mean in means]
        axes.plot(places, values, color=svg.ACCENT, marker="o", markersize=4.5, markeredgecolor=svg.PAPER)
        axes.set_xlabel("training images, cumulative")
        axes.xaxis.set_major_formatter(lambda value, _: count(value))
        axes.locator_params(axis="x", nbins=5)

    unit = ", %" if column.percent else ""
    return svg.draw(paint, name=f"images-{column.metric}", title=f"{column.title}{unit} by training images")


def _ridges(column: Column, found: Mapping[str, Floats]) -> svg.Drawing:
    everything = np.concatenate(list(found.values()))
    edges = np.histogram_bin_edges(everything, BINS)
    middles = (edges[:-1] + edges[1:]) / 2

    def paint(axes: Axes) -> None:
        top = max(np.histogram(values, edges)[0].max() / len(values) for values in found.values())
        for place, (label, values) in enumerate(found.items()):
            floor = len(found) - 1 - place
            heights = 1.3 * np.histogram(values, edges)[0] / len(values) / top
            colour = svg.MUTED if label == DATA else svg.ACCENT
            axes.fill_between(middles, floor, floor + heights, step="mid", color=colour, alpha=0.28, linewidth=0)
            axes.step(middles, floor + heights, where="mid", color=colour, linewidth=1)
            axes.vlines(values.mean(), floor, floor + 0.55, color=svg.INK, linewidth=1.1)
        axes.set_yticks(range(len(found)), list(found)[::-1])
        axes.set_xlabel("score; the mark is the mean")
        axes.grid(visible=False, axis="y")

    size = (3.8, min(5.0, 1.1 + 0.36 * len(found)))
    return svg.draw(paint, name=f"histogram-{column.metric}", title=f"Scores: {column.title}", size=size)


def _paint_radar(axes: Axes, titles: Sequence[str], values: Mapping[str, Sequence[float]]) -> None:
    """Spokes and rings by hand: drawn like every other figure, they take the page's colours."""
    everything = [value for row in values.values() for value in row]
    floor = min(0.0, *everything)
    step = _ring((max(everything) - floor) / 5)
    floor = step * math.floor(floor / step) - step  # the worst stays off the centre
    rings = np.arange(floor + step, max(everything) + step, step)
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(titles)) / len(titles)
    axes.set_aspect("equal")
    axes.axis("off")
    round_trip = np.linspace(0, 2 * np.pi, 120)
    for ring in rings:
        radius = ring - floor
        colour, width = (svg.MUTED, 1.0) if abs(ring) < step / 100 else (svg.GRID, 0.7)
        axes.plot(radius * np.cos(round_trip), radius * np.sin(round_trip), color=colour, linewidth=width)
        axes.annotate(f"{ring:.3g}".replace("-", "\N{MINUS SIGN}"), (0, radius), fontsize=7, color=svg.MUTED)
    reach = rings[-1] - floor
    axes.set_xlim(-1.35 * reach, 1.35 * reach)  # room for the names at the sides
    for angle, title in zip(angles, titles, strict=True):
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        axes.plot([0, x], [0, y], color=svg.GRID, linewidth=0.7)
        side = "center" if abs(x) < 0.1 * reach else "left" if x > 0 else "right"
        axes.annotate(title, (1.08 * x, 1.08 * y), ha=side, va="bottom" if y > 0.1 * reach else "top")
    for place, (label, row) in enumerate(values.items()):
        radii = np.array([*row, row[0]]) - floor
        turned = np.array([*angles, angles[0]])
        colour = svg.MUTED if place == 0 else svg.ramp(place - 1, len(values) - 1)
        style = (0, (3, 2)) if place == 0 else "-"
        axes.plot(radii * np.cos(turned), radii * np.sin(turned), color=colour, linestyle=style, label=label)
    axes.legend(loc="center left", bbox_to_anchor=(1.1, 0.5))


def _ring(size: float) -> float:
    """A round distance of rings, about `size`."""
    if size <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(size))
    return float(next(power * n for n in (1, 2, 5, 10) if power * n >= size))
