"""From raw scores to the score table: means, differences and win rates with their intervals.

One value per prompt: a prompt with several pictures counts as their mean. Models are compared on the
prompts they share. Values that are not finite are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from spin.core.plan import seed_of
from spin.core.statistics import Estimate, mean_interval, median, paired_difference, paired_win_rate
from spin.report.reading import Evaluation, Run, Stage
from spin.report.request import Against, Cell, Column, Comparison, ScoreRow

DATA: Final = "data"
DENOISING: Final = "denoising"
RESAMPLES: Final = 10_000
_TITLES: Final = {
    "frechet": "Frechet to data",
    "frechet_clean": "Frechet to clean",
    "hpsv2": "HPS v2",
    "pickscore": "PickScore",
    "image_reward": "ImageReward",
    DENOISING: "Held-out loss",
}
_ORDER: Final = ("alignment", "aesthetic", "attributes")
_LOWER_IS_BETTER: Final = frozenset({"frechet", "frechet_clean", DENOISING})


@dataclass(frozen=True)
class Subject:
    """One row of the table before it is reduced to numbers."""

    name: str
    label: str
    values: Mapping[str, Mapping[str, float]]  # metric -> prompt id -> value
    set_values: Mapping[str, float]
    stage: Stage | None


def score_rows(run: Run) -> tuple[ScoreRow, ...]:
    """The whole table: the real images first, then base, SFT and iterations as they are recorded."""
    subjects = _subjects(run)
    columns = _columns(subjects)
    seed = int(run.record.get("seed") or 0)
    rows = []
    for subject in subjects:
        opponents = _opponents(run, subject, subjects)
        cells = tuple(_cell(column, subject, opponents, subjects, seed=seed) for column in columns)
        rows.append(ScoreRow(subject.name, subject.label, cells))
    return tuple(rows)


def denoising_by_prompt(evaluation: Evaluation) -> dict[str, float]:
    """Mean held-out error of each prompt over its fixed draws."""
    return _mean_by_prompt((prompt, error) for (prompt, _), (_, error) in evaluation.denoising.items())


def convergence(run: Run, stage: Stage) -> tuple[str, float, Comparison] | None:
    """The paper's criterion: held-out loss of a model against its opponent's on the same draws.

    Returns:
        Label of the opponent, its loss on the shared draws, and the comparison; None where either was not measured.
    """
    opponent = run.previous(stage)
    if opponent is None:
        return None
    mine, theirs = stage.evaluation.denoising, opponent.evaluation.denoising
    shared = sorted(draw for draw in mine if draw in theirs and mine[draw][0] == theirs[draw][0])
    if not shared:
        return None
    a = _mean_by_prompt((draw[0], mine[draw][1]) for draw in shared)
    b = _mean_by_prompt((draw[0], theirs[draw][1]) for draw in shared)
    prompts = sorted(a.keys() & b.keys())
    if not prompts:
        return None
    seed = seed_of("convergence", run.record.get("seed"), stage.name)
    difference = paired_difference([a[p] for p in prompts], [b[p] for p in prompts], seed=seed, resamples=RESAMPLES)
    level = sum(b[p] for p in prompts) / len(prompts)
    return opponent.label, level, Comparison("previous", opponent.label, difference, None)


def _subjects(run: Run) -> list[Subject]:
    label = str((run.record.get(DATA) or {}).get("label") or DATA)
    measured = [(DATA, label, run.data, None), *((s.name, s.label, s.evaluation, s) for s in run.stages)]
    subjects = []
    for name, shown, evaluation, stage in measured:
        values = {
            scorer: _mean_by_prompt((prompt, score) for prompt, _, score in rows)
            for scorer, rows in evaluation.scores.items()
        }
        values[DENOISING] = denoising_by_prompt(evaluation)
        finite = {metric: value for metric, value in evaluation.set_metrics.items() if math.isfinite(value)}
        subjects.append(Subject(name, shown, {m: v for m, v in values.items() if v}, finite, stage))
    return subjects


def _mean_by_prompt(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    gathered: dict[str, list[float]] = {}
    for prompt, value in pairs:
        if value is not None and math.isfinite(value):
            gathered.setdefault(prompt, []).append(value)
    return {prompt: math.fsum(values) / len(values) for prompt, values in gathered.items()}


def _columns(subjects: list[Subject]) -> list[Column]:
    scorers = {metric for subject in subjects for metric in subject.values} - {DENOISING}
    sets = {metric for subject in subjects for metric in subject.set_values}
    known = [metric for metric in _ORDER if metric in scorers]
    of_sets = sorted(sets, key=lambda metric: (not metric.startswith("frechet"), metric))
    names = [*known, *sorted(scorers - set(known)), *of_sets]
    if any(DENOISING in subject.values for subject in subjects):
        names.append(DENOISING)
    return [_column(metric, subjects, per_prompt=metric not in sets) for metric in names]


def _column(metric: str, subjects: list[Subject], *, per_prompt: bool) -> Column:
    per_subject = [list(s.values.get(metric, {}).values()) if per_prompt else [s.set_values[metric]]
                   for s in subjects if metric in (s.values if per_prompt else s.set_values)]  # fmt: skip
    sizes = min if metric == DENOISING else max  # a base far off must not hide what comes after
    return Column(
        metric=metric,
        title=_TITLES.get(metric, metric.replace("_", " ").capitalize()),
        digits=_digits(sizes(abs(sum(values) / len(values)) for values in per_subject)),
        lower_is_better=metric in _LOWER_IS_BETTER,
        per_prompt=per_prompt,
        percent=metric == "attributes",
    )


def _digits(size: float) -> int:
    """Decimals that leave about four figures: 87.53, 7.86, 0.214, 0.02131."""
    return 2 if size >= 1 else 3 if size >= 0.1 else 5


def _opponents(run: Run, subject: Subject, subjects: list[Subject]) -> list[tuple[Against, Subject]]:
    """Whom a model is compared with; the base and the data with nobody."""
    stage = subject.stage
    if stage is None or stage is run.stages[0]:
        return []
    by_name = {other.name: other for other in subjects}
    found: list[tuple[Against, Subject]] = [("base", by_name[run.stages[0].name])]
    previous, start = run.previous(stage), run.start
    if previous is not None:
        found.append(("previous", by_name[previous.name]))
    if stage.plays and start is not None and start is not run.stages[0]:
        found.append(("start", by_name[start.name]))
    return found


def _cell(
    column: Column, subject: Subject, opponents: list[tuple[Against, Subject]], subjects: list[Subject], *, seed: int
) -> Cell:
    estimate, middle = _mean(column, subject, seed=seed), _median(column, subject)
    models = [other for other in subjects if other.stage is not None]
    means = [_plain_mean(column, other) for other in models]
    middles = [_median(column, other) for other in models]
    comparisons = [_compare(column, subject, other, against, seed=seed) for against, other in opponents]
    is_model = subject.stage is not None
    return Cell(
        column=column,
        mean=estimate,
        median=middle,
        best=is_model and _is_best(column, _plain_mean(column, subject), means),
        best_median=is_model and _is_best(column, middle, middles),
        comparisons=tuple(c for c in comparisons if c is not None),
    )


def _plain_mean(column: Column, subject: Subject) -> float | None:
    if not column.per_prompt:
        return subject.set_values.get(column.metric)
    values = subject.values.get(column.metric, {})
    return math.fsum(values.values()) / len(values) if values else None


def _mean(column: Column, subject: Subject, *, seed: int) -> Estimate | None:
    if not column.per_prompt:
        value = subject.set_values.get(column.metric)
        return None if value is None else Estimate(value, value, value)
    values = subject.values.get(column.metric, {})
    if not values:
        return None
    own = seed_of("mean", seed, column.metric, subject.name)
    return mean_interval([values[prompt] for prompt in sorted(values)], seed=own, resamples=RESAMPLES)


def _median(column: Column, subject: Subject) -> float | None:
    values = subject.values.get(column.metric, {}) if column.per_prompt and not column.percent else {}
    return median(list(values.values())) if values else None


def _is_best(column: Column, value: float | None, among: list[float | None]) -> bool:
    """True for the best of at least two, by the point estimate."""
    present = [other for other in among if other is not None]
    if value is None or len(present) < 2:
        return False
    return value == (min(present) if column.lower_is_better else max(present))


def _compare(column: Column, subject: Subject, other: Subject, against: Against, *, seed: int) -> Comparison | None:
    if not column.per_prompt:
        return None
    mine, theirs = subject.values.get(column.metric, {}), other.values.get(column.metric, {})
    prompts = sorted(mine.keys() & theirs.keys())
    if not prompts:
        return None
    a, b = [mine[prompt] for prompt in prompts], [theirs[prompt] for prompt in prompts]
    own = seed_of("difference", seed, column.metric, subject.name, other.name)
    wins = None if column.metric == DENOISING else paired_win_rate(a, b, seed=own, resamples=RESAMPLES)
    return Comparison(against, other.label, paired_difference(a, b, seed=own, resamples=RESAMPLES), wins)
