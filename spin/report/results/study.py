"""The numbers of a comparison: means, differences and win rates over seeds and prompts, with their intervals.

The prompt is the unit of resampling. Of each prompt the mean over the run seeds is taken first: the interval tells
how far the prompts carry the difference; how far the seeds do is told by each seed's own difference beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from spin.core.comparison import z_average
from spin.core.plan import seed_of
from spin.core.recipe import AVERAGE, BASE, CHOSEN
from spin.core.statistics import Estimate, mean_interval
from spin.report.results.facts import Facts, Row, RunFacts, StageFacts, read_facts, read_scores
from spin.report.subjects import DENOISING, judges_of

_RESAMPLES: Final = seed_of("comparison")  # of the bootstrap: the same prompts are drawn for every difference
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One row minus another on the same prompts and seeds."""

    estimate: Estimate
    by_seed: tuple[float, ...]
    prompts: int
    largest: float  # of any prompt and seed, without its sign


@dataclass(frozen=True)
class Values:
    """One row and metric: (seeds, prompts), NaN where a picture has no score."""

    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    matrix: Floats


class Study:
    """A comparison as it stands in its two files."""

    def __init__(self, folder: Path) -> None:
        self.facts: Facts = read_facts(folder)
        self._table: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
        self._values: dict[tuple[str, str], Values | None] = {}
        table = read_scores(folder)
        columns = (table.column(name).to_pylist() for name in ("row", "seed", "prompt", "metric", "value"))
        for row, seed, prompt, metric, value in zip(*columns, strict=True):
            self._table.setdefault((row, metric), {}).setdefault(seed, {})[prompt] = value

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.facts.rows

    @cached_property
    def judges(self) -> tuple[str, ...]:
        return judges_of({metric for row, metric in self._table} - {DENOISING})

    @cached_property
    def averaged(self) -> tuple[str, ...]:
        """Judges of the average, as the recipe named them, that judged."""
        return tuple(judge for judge in self.facts.recipe.average if (BASE, judge) in self._table)

    @property
    def tells_memory(self) -> bool:
        """Whether any stage was trained in a process of its own, whose memory is its own."""
        return any(stage.peak_bytes for run in self.facts.runs for stage in run.stages)

    def row(self, name: str) -> Row | None:
        """A row by its name; an arm's name is its last model."""
        arm, _, stage = name.partition("/")
        for row in self.rows:
            if row.row == name or (not stage and row.arm == arm and row.last):
                return row
        return None

    def values(self, row: str, metric: str) -> Values | None:
        """The values of a row, prompts sorted; those that every seed has."""
        if (row, metric) not in self._values:
            self._values[row, metric] = self._averages(row) if metric == AVERAGE else self._scored(row, metric)
        return self._values[row, metric]

    def _scored(self, row: str, metric: str) -> Values | None:
        found = self._table.get((row, metric))
        if not found:
            return None
        seeds = tuple(sorted(found))
        prompts = tuple(sorted(set.intersection(*(set(found[seed]) for seed in seeds))))
        if not prompts:
            return None
        return Values(seeds, prompts, np.array([[found[seed][prompt] for prompt in prompts] for seed in seeds]))

    def mean(self, row: str, metric: str) -> tuple[float, float] | None:
        """Mean over seeds and prompts, and standard deviation over the seeds' means (0 of one seed)."""
        found = self.values(row, metric)
        if found is None:
            return None
        of_seeds = found.matrix.mean(axis=1)
        return float(of_seeds.mean()), float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else 0.0

    def median(self, row: str, metric: str) -> float | None:
        """Mean over seeds of the median over prompts."""
        found = self.values(row, metric)
        return None if found is None else float(np.median(found.matrix, axis=1).mean())

    def difference(self, row: str, other: str, metric: str) -> Difference | None:
        """Paired over the prompts and seeds that both rows have."""
        pair = self._pair(row, other, metric)
        if pair is None:
            return None
        prompts, mine, theirs = pair
        apart = mine - theirs
        estimate = mean_interval(apart.mean(axis=0), seed=_RESAMPLES)
        return Difference(
            estimate, tuple(float(value) for value in apart.mean(axis=1)), len(prompts), float(np.abs(apart).max())
        )

    def wins(self, row: str, other: str, metric: str) -> Estimate | None:
        """Share of (prompt, seed) won, a tie counting one half; bootstrap over prompts."""
        pair = self._pair(row, other, metric)
        if pair is None:
            return None
        _, mine, theirs = pair
        won = np.where(mine > theirs, 1.0, np.where(mine == theirs, 0.5, 0.0))
        return mean_interval(won.mean(axis=0), seed=_RESAMPLES)

    def set_metric(self, row: Row, metric: str) -> tuple[float, float] | None:
        """A number of the whole set: mean over seeds and their standard deviation."""
        if row.row in self.facts.set_metrics:
            value = self.facts.set_metrics[row.row].get(metric)
            return None if value is None else (value, 0.0)
        values = [s.set_metrics[metric] for s in self.stages(row) if metric in s.set_metrics]
        return _mean_sd(values)

    def stages(self, row: Row) -> tuple[StageFacts, ...]:
        """The stage that made this row, of each seed."""
        return tuple(
            stage for run in self.facts.runs_of(row.arm) for stage in run.stages if stage.stage == _stage_of(run, row)
        )

    def spent(self, row: Row) -> dict[str, float] | None:
        """What it took to come to this row, start and all earlier iterations included; means over seeds."""
        totals = []
        for run in self.facts.runs_of(row.arm):
            names = [stage.stage for stage in run.stages]
            if row.stage in names or (row.stage == CHOSEN and names):
                end = len(names) if row.stage == CHOSEN else names.index(row.stage) + 1  # all were played to choose
                way = run.stages[:end]
                totals.append({
                    "images": float(sum(stage.images for stage in way)),
                    "sampled": float(sum(stage.sampled for stage in way)),
                    "train_seconds": fsum(stage.train_seconds for stage in way),
                    "sample_seconds": fsum(stage.sample_seconds for stage in way),
                    "peak_bytes": float(max((stage.peak_bytes or 0 for stage in way), default=0)),
                })  # fmt: skip
        if not totals:
            return None
        return {key: fsum(total[key] for total in totals) / len(totals) for key in totals[0]}

    def _averages(self, row: str) -> Values | None:
        """Mean over the recipe's judges of z-scores against the base, seed by seed."""
        mine = [self.values(row, judge) for judge in self.averaged]
        base = [self.values(BASE, judge) for judge in self.averaged]
        if not mine or any(found is None for found in (*mine, *base)):
            return None
        present = [found for found in mine if found is not None]
        yardsticks = {j: b.matrix[0] for j, b in zip(self.averaged, base, strict=True) if b is not None}
        prompts = tuple(sorted(set.intersection(*(set(found.prompts) for found in present))))
        places = [[found.prompts.index(prompt) for prompt in prompts] for found in present]
        rows = [
            z_average(
                {j: f.matrix[number][place] for j, f, place in zip(self.averaged, present, places, strict=True)},
                yardsticks,
            )
            for number in range(len(present[0].seeds))
        ]
        return Values(present[0].seeds, prompts, np.array(rows))

    def _pair(self, row: str, other: str, metric: str) -> tuple[tuple[str, ...], Floats, Floats] | None:
        mine, theirs = self.values(row, metric), self.values(other, metric)
        if mine is None or theirs is None:
            return None
        prompts = tuple(sorted(set(mine.prompts) & set(theirs.prompts)))
        seeds = sorted(set(mine.seeds) & set(theirs.seeds))
        if not prompts or not seeds:
            return None
        return prompts, _pick(mine, seeds, prompts), _pick(theirs, seeds, prompts)


def _stage_of(run: RunFacts, row: Row) -> str | None:
    return run.chosen if row.stage == CHOSEN else row.stage


def _pick(values: Values, seeds: Sequence[int], prompts: Sequence[str]) -> Floats:
    place = {prompt: number for number, prompt in enumerate(values.prompts)}
    return values.matrix[np.ix_([values.seeds.index(s) for s in seeds], [place[p] for p in prompts])]


def _mean_sd(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    array = np.array(values)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0
