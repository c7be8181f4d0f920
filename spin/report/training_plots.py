"""Plots of training: what the log says of each stage, and the held-out error per noise level during it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from spin.core.statistics import Floats
from spin.report import svg
from spin.report.plots import finite, noise_bins
from spin.report.reading import Stage, Training

POINTS: Final = 240  # drawn per stage; longer logs are averaged in bins


@dataclass(frozen=True)
class Quantity:
    """One plot: columns of the log with their name in the legend, colour, and whether the line is dashed."""

    name: str
    title: str
    lines: tuple[tuple[str, str, str, bool], ...]
    level: float | None = None  # a value worth a line, such as log 2
    level_text: str = ""
    log_scale: bool = False
    smooth: bool = True


_GAME: Final = (
    Quantity("loss", "Loss", (("loss", "", svg.ACCENT, False),), math.log(2), "log 2: no difference yet"),
    Quantity("accuracy", "Implicit accuracy", (("accuracy", "", svg.ACCENT, False),), 0.5, "chance"),
    Quantity("margin", "Mean margin", (("margin", "", svg.ACCENT, False),), 0.0),
    Quantity("real", "Error on real images", (("real_mse", "policy", svg.REAL, False),
                                              ("real_mse_opponent", "opponent", svg.MUTED, True))),
    Quantity("generated", "Error on generated images", (("generated_mse", "policy", svg.GENERATED, False),
                                                        ("generated_mse_opponent", "opponent", svg.MUTED, True))),
    Quantity("gradient", "Gradient norm", (("gradient_norm", "", svg.ACCENT, False),), log_scale=True),
    Quantity("lr", "Learning rate", (("lr", "", svg.ACCENT, False),), smooth=False),
)  # fmt: skip
_SUPERVISED: Final = tuple(
    replace(q, lines=q.lines[:1], level=None) for q in _GAME if q.name in {"loss", "gradient", "lr"}
)


def training_curves(stages: Sequence[Stage]) -> list[tuple[str, list[svg.Drawing]]]:
    """Groups of plots: the SFT stage, then the iterations side by side on one axis of steps."""
    trained = [stage for stage in stages if stage.training is not None and stage.training.log.get("step")]
    groups = []
    for heading, members, quantities in (
        ("Supervised stage", [s for s in trained if not s.plays], _SUPERVISED),
        ("Self-play iterations", [s for s in trained if s.plays], _GAME),
    ):
        plots = [_curve(q, members, group=heading[:4].lower()) for q in quantities if _present(q, members)]
        if plots:
            groups.append((heading, plots))
    return groups


def held_out_curves(stages: Sequence[Stage]) -> list[svg.Drawing]:
    """Per stage: held-out error of each noise level relative to the stage's start, over its steps."""
    return [
        plot
        for stage in stages
        if stage.training is not None and stage.training.held_out.get("step")
        if (plot := _held_out_curve(stage, stage.training)) is not None
    ]


def held_out_changes(training: Training) -> list[tuple[float, list[tuple[int, float]]]]:
    """(mean timestep, [(step, change in percent)]) for each noise level, low noise first."""
    held = training.held_out
    steps, timesteps = np.array(held["step"]), np.array(held["timestep"], float)
    errors, starts = np.array(finite(held["error"])), np.array(finite(held["error_start"]))
    levels = []
    for rows in noise_bins(timesteps):
        points = []
        for step in np.unique(steps[rows]):
            chosen = rows[steps[rows] == step]
            start = starts[chosen].mean()
            if start > 0 and math.isfinite(errors[chosen].mean()):
                points.append((int(step), 100 * float(errors[chosen].mean() / start - 1)))
        if points:
            levels.append((float(timesteps[rows].mean()), points))
    return levels


def _held_out_curve(stage: Stage, training: Training) -> svg.Drawing | None:
    levels = held_out_changes(training)
    if not levels:
        return None

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=svg.MUTED, linewidth=0.9)
        for position, (timestep, points) in enumerate(levels):
            colour = svg.ramp(position, len(levels))
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=2.5, label=f"t {timestep:.0f}")
        axes.set(xlabel="step", ylabel="change, %")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return svg.draw(paint, name=f"held-out-{stage.name}", title=f"{stage.label}: held-out error")


def _present(quantity: Quantity, stages: Sequence[Stage]) -> bool:
    return any(not np.isnan(_column(stage, line[0])).all() for stage in stages for line in quantity.lines[:1])


def _column(stage: Stage, name: str) -> Floats:
    assert stage.training is not None
    steps = stage.training.log["step"]
    return np.array(finite(stage.training.log.get(name) or [None] * len(steps)), float)


def _curve(quantity: Quantity, stages: Sequence[Stage], *, group: str) -> svg.Drawing:
    def paint(axes: Axes) -> None:
        offset, ticks = 0.0, []
        for number, stage in enumerate(stages):
            steps = _column(stage, "step")
            if number:
                axes.axvline(offset, color=svg.MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
            for column, label, colour, dashed in quantity.lines:
                _line(axes, steps + offset, _column(stage, column), quantity, colour, dashed, "" if number else label)
            ticks.append((offset + steps.max() / 2, stage.label))
            offset += steps.max()
        _mark_stages(axes, ticks, offset)
        _mark_level(axes, quantity)
        if quantity.lines[0][1]:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderpad=0)

    return svg.draw(paint, name=f"{group}-{quantity.name}", title=quantity.title)


def _line(axes: Axes, steps: Floats, values: Floats, quantity: Quantity, colour: str, dashed: bool, label: str) -> None:
    """The raw values faint, their running mean strong."""
    x, y = _thinned(steps, values)
    window = max(1, len(y) // 16) if quantity.smooth else 1
    if window > 1 and not dashed:
        axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
    style, width = ((0, (3, 2)), 1.1) if dashed else ("-", 1.6)
    axes.plot(x, running_mean(y, window), color=colour, linestyle=style, linewidth=width, label=label or None)


def running_mean(values: Floats, window: int) -> Floats:
    """Mean over a centred window that shrinks at the ends; (N,) -> (N,), NaN left out."""
    kernel = np.ones(2 * (window // 2) + 1)
    known = ~np.isnan(values)
    total = np.convolve(np.where(known, values, 0.0), kernel, "full")
    counts = np.convolve(known.astype(float), kernel, "full")
    middle = slice(len(kernel) // 2, len(kernel) // 2 + len(values))
    with np.errstate(invalid="ignore"):
        return np.asarray(total[middle] / counts[middle])


def _thinned(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    if len(steps) <= POINTS:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), POINTS)
    return np.array([steps[p].mean() for p in parts]), np.array([np.mean(values[p]) for p in parts])


def _mark_stages(axes: Axes, ticks: list[tuple[float, str]], end: float) -> None:
    axes.set_xlim(0, end)
    if len(ticks) == 1:
        axes.set_xlabel("step")
        return
    names = [label.removeprefix("SPIN ") for _, label in ticks] if len(ticks) > 4 else [label for _, label in ticks]
    axes.set_xticks([place for place, _ in ticks], names)
    axes.set_xlabel(f"{end:.0f} steps" + (", by SPIN iteration" if len(ticks) > 4 else ""))


def _mark_level(axes: Axes, quantity: Quantity) -> None:
    if quantity.log_scale:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if quantity.level is None:
        return
    axes.axhline(quantity.level, color=svg.MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
    if quantity.level_text:
        svg.note(axes, quantity.level_text, quantity.level)
