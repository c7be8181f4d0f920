"""What is compared: the real images and the models, each with one value per prompt and metric.

Protocol `single`: the value of a prompt is that of its first picture; pictures drawn further serve the diversity
only. Protocol `best_of_n` (paper, section 6): of each prompt the one picture is kept whose plain mean over the
judges' raw scores is highest, and every judge's value is that of this picture. A picture without all of the judges'
scores cannot be kept. Values that are not finite are left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from spin.core.comparison import plain_average, z_average
from spin.report.reading import Evaluation, Run, Score, Stage

DATA: Final = "data"
DENOISING: Final = "denoising"
DIVERSITY: Final = "diversity"  # a number of the whole set, or a row per prompt where an evaluation writes that
AVERAGE: Final = "average"
Z_AVERAGE: Final = "z_average"
BEST_OF_N: Final = "best_of_n"
PAPER_JUDGES: Final = ("hpsv2", "aesthetic", "image_reward", "pickscore")
_ORDER: Final = ("alignment", *PAPER_JUDGES, "attributes")

ByPrompt = Mapping[str, float]


@dataclass(frozen=True)
class Subject:
    """One row of the table before it is reduced to numbers."""

    name: str
    label: str
    values: Mapping[str, ByPrompt]  # metric -> prompt id -> value
    set_values: Mapping[str, float]
    stage: Stage | None
    prompts: frozenset[str]  # that were evaluated, with or without a score


def subjects_of(run: Run) -> list[Subject]:
    """The real images first, then base, SFT and iterations as they are recorded, with the averages of their judges."""
    label = str((run.record.get(DATA) or {}).get("label") or DATA)
    measured = [(DATA, label, run.data, None), *((s.name, s.label, s.evaluation, s) for s in run.stages)]
    judges = judges_of(scorer for _, _, evaluation, _ in measured for scorer in evaluation.scores)
    subjects = []
    for name, shown, evaluation, stage in measured:
        values = values_by_prompt(evaluation, judges)
        values[DENOISING] = denoising_by_prompt(evaluation)
        finite = {metric: value for metric, value in evaluation.set_metrics.items() if math.isfinite(value)}
        kept = {metric: found for metric, found in values.items() if found}
        subjects.append(Subject(name, shown, kept, finite, stage, frozenset(evaluation.prompts)))
    return _with_averages(subjects, averaged(judges))


def judges_of(scorers: Iterable[str]) -> tuple[str, ...]:
    """Scorers that judge a picture, in the order in which tables show them."""
    known = set(scorers) - {DIVERSITY}
    first = [judge for judge in _ORDER if judge in known]
    return (*first, *sorted(known - set(first)))


def averaged(judges: Collection[str]) -> tuple[str, ...]:
    """Judges that an average is made of: the paper's four where all are there, else all; none of a single one."""
    chosen = PAPER_JUDGES if set(PAPER_JUDGES) <= set(judges) else tuple(judges)
    return chosen if len(chosen) > 1 else ()


def values_by_prompt(evaluation: Evaluation, judges: Collection[str]) -> dict[str, dict[str, float]]:
    """Scorer -> prompt id -> value, by the protocol of the evaluation."""
    kept = chosen_draws(evaluation, judges)
    found = {}
    for scorer, rows in evaluation.scores.items():
        # the diversity of a prompt is of all of its pictures, whichever is kept
        chosen = (row for row in rows if scorer == DIVERSITY or row.draw == kept.get(row.prompt))
        found[scorer] = mean_by_prompt((row.prompt, row.value) for row in chosen)
    return found


def chosen_draws(evaluation: Evaluation, judges: Collection[str] | None = None) -> dict[str, int]:
    """Number of the picture of each prompt that its values are of; by default the evaluation's own judges choose."""
    if evaluation.protocol == BEST_OF_N:
        return kept_draws(evaluation, judges_of(evaluation.scores) if judges is None else judges)
    return dict.fromkeys(evaluation.prompts, 0)


def kept_draws(evaluation: Evaluation, judges: Collection[str]) -> dict[str, int]:
    """Number of the picture that is kept of each prompt; of equal ones the first."""
    asked = averaged(judges) or tuple(judges)
    scores: dict[tuple[str, int], list[float]] = {}
    for judge in asked:
        for row in evaluation.scores.get(judge, ()):
            if _is_finite(row):
                scores.setdefault((row.prompt, row.draw), []).append(float(row.value or 0))
    best: dict[str, tuple[float, int]] = {}
    for (prompt, draw), values in sorted(scores.items()):
        level = math.fsum(values) / len(values)
        if len(values) == len(asked) and (prompt not in best or level > best[prompt][0]):
            best[prompt] = (level, draw)
    return {prompt: draw for prompt, (_, draw) in best.items()}


def denoising_by_prompt(evaluation: Evaluation) -> dict[str, float]:
    """Mean held-out error of each prompt over its fixed draws."""
    return mean_by_prompt((prompt, error) for (prompt, _), (_, error) in evaluation.denoising.items())


def mean_by_prompt(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """One value per prompt: the mean of what is finite."""
    gathered: dict[str, list[float]] = {}
    for prompt, value in pairs:
        if value is not None and math.isfinite(value):
            gathered.setdefault(prompt, []).append(value)
    return {prompt: math.fsum(values) / len(values) for prompt, values in gathered.items()}


def _with_averages(subjects: list[Subject], judges: tuple[str, ...]) -> list[Subject]:
    """Each subject with its average and, where the base was judged, its z-scores against the base."""
    if not judges:
        return subjects
    base = next((subject for subject in subjects if subject.stage is not None), None)
    yardstick = None
    if base is not None and all(base.values.get(judge) for judge in judges):
        yardstick = {judge: list(base.values[judge].values()) for judge in judges}
    done = []
    for subject in subjects:
        prompts = sorted(set.intersection(*(set(subject.values.get(judge, ())) for judge in judges)))
        made: dict[str, ByPrompt] = {}
        if prompts:
            scores = {judge: [subject.values[judge][prompt] for prompt in prompts] for judge in judges}
            made[AVERAGE] = dict(zip(prompts, plain_average(scores).tolist(), strict=True))
            if yardstick is not None:
                zs = z_average(scores, yardstick)
                made |= {Z_AVERAGE: dict(zip(prompts, zs.tolist(), strict=True))} if np.isfinite(zs).all() else {}
        done.append(replace(subject, values={**subject.values, **made}))
    return done


def _is_finite(row: Score) -> bool:
    return row.value is not None and math.isfinite(row.value)
