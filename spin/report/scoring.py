"""From values per prompt to the score table: means, differences and win rates with their intervals.

Models are compared on the prompts they share. Metrics over the same prompts are resampled together: each has
the interval it would have alone. Intervals of differences are bootstrapped, those of win rates are Wilson's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from spin.core.comparison import sample_size, win_rate
from spin.core.plan import seed_of
from spin.core.statistics import Estimate, median, percentile_interval, resampled_means
from spin.report.reading import Run, Stage
from spin.report.request import Against, Cell, Column, Comparison, Kind, ScoreRow
from spin.report.subjects import (
    AVERAGE,
    DENOISING,
    DIVERSITY,
    Z_AVERAGE,
    ByPrompt,
    Subject,
    judges_of,
    mean_by_prompt,
    subjects_of,
)

RESAMPLES: Final = 10_000
LEVEL: Final = 0.95  # share of the resamples inside an interval
_TITLES: Final = {
    "frechet": "Frechet to data",
    "frechet_clean": "Frechet to clean",
    "hpsv2": "HPS v2",
    "pickscore": "PickScore",
    "image_reward": "ImageReward",
    Z_AVERAGE: "Average z",
    DENOISING: "Held-out loss",
}
_DIGITS: Final = {  # as papers print them; z begins at 0; losses of two models differ by a hundredth
    "hpsv2": 4, "image_reward": 3, AVERAGE: 3, Z_AVERAGE: 3, DENOISING: 5,
}  # fmt: skip
_LOWER_IS_BETTER: Final = frozenset({"frechet", "frechet_clean", DENOISING})


def score_rows(run: Run, subjects: list[Subject] | None = None) -> tuple[ScoreRow, ...]:
    """The whole table: the real images first, where there are some, then base, SFT and iterations as recorded.

    Args:
        subjects: of this run, where they are at hand.
    """
    subjects = subjects_of(run) if subjects is None else subjects
    columns = columns_of(subjects)
    rows = []
    for subject in subjects:
        if subject.stage is None and columns and not (subject.values or subject.set_values):
            continue  # prompts without real images
        means = _estimates(subject.values, seed=seed_of("mean", run.record.get("seed"), subject.name))
        duels = [compare(run, against, subject, other) for against, other in opponents(run, subject, subjects)]
        cells = tuple(_cell(column, subject, subjects, means, duels) for column in columns)
        rows.append(ScoreRow(subject.name, subject.label, cells))
    return tuple(rows)


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
    a = mean_by_prompt((draw[0], mine[draw][1]) for draw in shared)
    b = mean_by_prompt((draw[0], theirs[draw][1]) for draw in shared)
    prompts = sorted(a.keys() & b.keys())
    if not prompts:
        return None
    seed = _duel_seed(run, stage.name, opponent.name)
    difference = _estimates({DENOISING: {p: a[p] - b[p] for p in prompts}}, seed=seed)[DENOISING]
    level = sum(b[p] for p in prompts) / len(prompts)
    return opponent.label, level, Comparison("previous", opponent.label, difference, None)


def columns_of(subjects: list[Subject]) -> list[Column]:
    """Judges, their averages, numbers of the whole set, the loss."""
    per_prompt = {metric for subject in subjects for metric in subject.values}
    judges = judges_of(per_prompt - {DENOISING, AVERAGE, Z_AVERAGE})
    averages = [metric for metric in (AVERAGE, Z_AVERAGE) if metric in per_prompt]
    sets = {metric for subject in subjects for metric in subject.set_values} | (per_prompt & {DIVERSITY})
    of_sets = sorted(sets, key=lambda metric: (not metric.startswith("frechet"), metric))
    loss = [DENOISING] if DENOISING in per_prompt else []
    kinds: dict[str, Kind] = dict.fromkeys([*of_sets, *loss], "measure")
    kinds |= dict.fromkeys(averages, "average")
    names = [*judges, *averages, *of_sets, *loss]
    return [_column(name, subjects, name in per_prompt, kinds.get(name, "judge")) for name in names]


def title(metric: str) -> str:
    """What stands above a metric's column."""
    return _TITLES.get(metric, metric.replace("_", " ").capitalize())


def _column(metric: str, subjects: list[Subject], per_prompt: bool, kind: Kind) -> Column:
    per_subject = [list(s.values.get(metric, {}).values()) if per_prompt else [s.set_values[metric]]
                   for s in subjects if metric in (s.values if per_prompt else s.set_values)]  # fmt: skip
    means = [sum(values) / len(values) for values in per_subject]
    return column_for(metric, means, per_prompt=per_prompt, kind=kind)


def column_for(metric: str, means: Sequence[float], *, per_prompt: bool = True, kind: Kind = "judge") -> Column:
    """How a metric is shown, by the size of the models' means."""
    sizes = min if metric == DENOISING else max  # a base far off must not hide what comes after
    return Column(
        metric=metric,
        title=title(metric),
        digits=_DIGITS.get(metric) or _digits(sizes(abs(mean) for mean in means)),
        lower_is_better=metric in _LOWER_IS_BETTER,
        per_prompt=per_prompt,
        percent=metric == "attributes",
        kind=kind,
    )


def _digits(size: float) -> int:
    """Decimals that leave about four figures: 87.53, 7.86, 0.214, 0.02131."""
    return 2 if size >= 1 else 3 if size >= 0.1 else 5


def opponents(run: Run, subject: Subject, subjects: list[Subject]) -> list[tuple[Against, Subject]]:
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
    column: Column,
    subject: Subject,
    subjects: list[Subject],
    means: Mapping[str, Estimate],
    duels: list[dict[str, Comparison]],
) -> Cell:
    middle = _median(column, subject)
    models = [other for other in subjects if other.stage is not None]
    is_model = subject.stage is not None
    return Cell(
        column=column,
        mean=_mean(column, subject, means),
        median=middle,
        best=is_model and _is_best(column, _plain_mean(column, subject), [_plain_mean(column, m) for m in models]),
        best_median=is_model and _is_best(column, middle, [_median(column, m) for m in models]),
        comparisons=tuple(duel[column.metric] for duel in duels if column.metric in duel),
    )


def _plain_mean(column: Column, subject: Subject) -> float | None:
    if not column.per_prompt:
        return subject.set_values.get(column.metric)
    values = subject.values.get(column.metric, {})
    return math.fsum(values.values()) / len(values) if values else None


def _mean(column: Column, subject: Subject, means: Mapping[str, Estimate]) -> Estimate | None:
    if column.per_prompt:
        return means.get(column.metric)
    value = subject.set_values.get(column.metric)
    return None if value is None else Estimate(value, value, value)


def _median(column: Column, subject: Subject) -> float | None:
    values = subject.values.get(column.metric, {}) if column.per_prompt and not column.percent else {}
    return median(list(values.values())) if values else None


def _is_best(column: Column, value: float | None, among: list[float | None]) -> bool:
    """True for the best of at least two, by the point estimate."""
    present = [other for other in among if other is not None]
    if value is None or len(present) < 2:
        return False
    return value == (min(present) if column.lower_is_better else max(present))


def compare(run: Run, against: Against, subject: Subject, other: Subject) -> dict[str, Comparison]:
    """One model against another on the prompts they share, by metric."""
    pairs = {metric: shared_values(metric, subject, other) for metric in subject.values}
    differences = {
        metric: {p: a - b for p, a, b in zip(prompts, mine, theirs, strict=True)}
        for metric, (prompts, mine, theirs) in pairs.items()
        if prompts
    }
    found = _estimates(differences, seed=_duel_seed(run, subject.name, other.name))
    return {
        metric: Comparison(
            against,
            other.label,
            found[metric],
            wins=None if metric == DENOISING else win_rate(*pairs[metric][1:]),
            missing=_asked(metric, subject, other) - len(by_prompt) if metric != DENOISING else 0,
            size=sample_size(list(by_prompt.values())) if len(by_prompt) > 1 else None,
        )
        for metric, by_prompt in differences.items()
    }


def _asked(metric: str, subject: Subject, other: Subject) -> int:
    """Prompts that should have a value: all that were evaluated; few are drawn several times for the diversity."""
    if metric == DIVERSITY:
        return len(_of(metric, subject).keys() | _of(metric, other).keys())
    return len(subject.prompts | other.prompts)


def shared_values(metric: str, subject: Subject, other: Subject) -> tuple[list[str], list[float], list[float]]:
    """Prompts that both have a value for, sorted, and the values of each."""
    mine, theirs = _of(metric, subject), _of(metric, other)
    prompts = sorted(mine.keys() & theirs.keys())
    return prompts, [mine[prompt] for prompt in prompts], [theirs[prompt] for prompt in prompts]


def _of(metric: str, subject: Subject) -> ByPrompt:
    return subject.values.get(metric, {})


def _duel_seed(run: Run, name: str, other: str) -> int:
    """One for all metrics of two models, so that a difference has one interval wherever it is shown."""
    return seed_of("difference", run.record.get("seed"), name, other)


def _estimates(columns: Mapping[str, Mapping[str, float]], *, seed: int) -> dict[str, Estimate]:
    """Mean over prompts of each column with its interval; a column without prompts is left out."""
    together: dict[tuple[str, ...], list[str]] = {}
    for name, values in columns.items():
        together.setdefault(tuple(sorted(values)), []).append(name)
    found: dict[str, Estimate] = {}
    for prompts, names in together.items():
        if prompts:
            matrix = np.array([[columns[name][prompt] for name in names] for prompt in prompts])
            found |= zip(names, _intervals(matrix.tobytes(), len(names), seed), strict=True)
    return found


@lru_cache(maxsize=256)
def _intervals(matrix: bytes, columns: int, seed: int) -> tuple[Estimate, ...]:
    """Bootstrap over the rows, 30 ms for 256; kept, as a growing run is reported after each of its stages."""
    values = np.frombuffer(matrix).reshape(-1, columns)
    lows, highs = percentile_interval(resampled_means(values, seed=seed, resamples=RESAMPLES), level=LEVEL)
    means = [math.fsum(column) / len(column) for column in values.T]
    return tuple(Estimate(mean, float(low), float(high)) for mean, low, high in zip(means, lows, highs, strict=True))
