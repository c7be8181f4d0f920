"""The plots of a comparison: arms against what they read or cost, or side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from spin.core.recipe import CHOSEN, Plot
from spin.report import svg
from spin.report.request import Column
from spin.report.results.claims import column_of
from spin.report.results.facts import Row
from spin.report.results.study import Study
from spin.report.svg import Drawing

_BAR_INCHES = 0.27


def drawings(study: Study) -> list[Drawing]:
    """Every plot that the recipe asks for and whose numbers there are."""
    made = (_drawn(study, plot) for plot in study.facts.recipe.plots)
    return [drawing for drawing in made if drawing is not None]


def _drawn(study: Study, plot: Plot) -> Drawing | None:
    told = [row for row in study.rows if study.mean(row.row, plot.metric)]
    rows = {arm: [row for row in told if row.arm == arm] for arm in _arms(study)}
    curves = _curves(study, plot)
    shown = [row for arms in curves.values() for arm in arms for row in rows[arm]]
    if not shown:
        return None
    column, name = column_of(study, plot.metric), f"{study.facts.recipe.name}-{plot.name}"
    if plot.kind == "bars":
        size = (5.6, 0.9 + _BAR_INCHES * len(shown))
        return svg.draw(lambda axes: _bars(axes, study, shown, column), name=name, title=plot.title, size=size)
    lines = {  # what other prompts chose is one of the models that are there already
        label: [row for arm in arms for row in rows[arm] if row.stage != CHOSEN] for label, arms in curves.items()
    }
    by_time = plot.kind == "cost"
    return svg.draw(
        lambda axes: _lines(axes, study, lines, column, by_time=by_time), name=name, title=plot.title, size=(5.6, 3.0)
    )


def _arms(study: Study) -> tuple[str, ...]:
    return tuple(study.facts.recipe.arms)


def _curves(study: Study, plot: Plot) -> Mapping[str, Sequence[str]]:
    """Label of each curve and the arms that it goes through."""
    if plot.curves:
        return plot.curves
    recipe = study.facts.recipe
    return {recipe.arms[arm].label: (arm,) for arm in plot.arms or _arms(study)}


def _bars(axes: Axes, study: Study, rows: Sequence[Row], column: Column) -> None:
    """A dot for each row with a dot for each of its seeds; the last row is at the bottom."""
    scale = 100 if column.percent else 1
    for place, row in enumerate(rows):
        found = study.values(row.row, column.metric)
        assert found is not None
        of_seeds = scale * found.matrix.mean(axis=1)
        axes.plot(of_seeds, [-place] * len(of_seeds), "o", color=svg.MUTED, markersize=3)
        axes.plot([of_seeds.mean()], [-place], "o", color=svg.ACCENT, markersize=6)
    axes.set_yticks([-place for place in range(len(rows))], [row.label for row in rows])
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.grid(axis="x")
    axes.set_xlabel(_axis(column))


def _lines(axes: Axes, study: Study, lines: Mapping[str, Sequence[Row]], column: Column, *, by_time: bool) -> None:
    scale = 100 if column.percent else 1
    for place, (label, rows) in enumerate(lines.items()):
        points = []
        for row in rows:
            spent, mean = study.spent(row), study.mean(row.row, column.metric)
            if spent is not None and mean is not None:
                x = spent["train_seconds"] + spent["sample_seconds"] if by_time else spent["images"]
                points.append((x, scale * mean[0]))
        if points:
            colour = svg.ramp(place, len(lines))
            axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3.5, label=label)
    axes.set_xlabel("device seconds" if by_time else "training images")
    axes.set_ylabel(_axis(column))
    axes.legend()


def _axis(column: Column) -> str:
    unit = ", %" if column.percent else ""
    return f"{column.title}{unit} ({column.direction})"
