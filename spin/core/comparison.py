"""One model against another on the same prompts: prompts won, averages over judges, and how many prompts it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import norm

from spin.core.statistics import Estimate, Floats, Values, as_pair, as_vector

POWER: Final = 0.8  # chance to see an effect that is there; the convention since Cohen 1988


@dataclass(frozen=True)
class WinRate:
    """Prompts won, tied and lost, and the share won with its interval, in 0..1."""

    wins: int
    ties: int
    losses: int
    share: Estimate

    @property
    def prompts(self) -> int:
        return self.wins + self.ties + self.losses


@dataclass(frozen=True)
class SampleSize:
    """What a number of prompts can show."""

    prompts: int  # that were compared
    needed: int | None  # for an effect as large as the one observed; None where none was observed
    smallest: float  # difference that this number of prompts shows, in the metric's unit


def win_rate(a: Values, b: Values, *, level: float = 0.95) -> WinRate:
    """Prompts on which a scores above b, a tie counting one half of a win in the share; Wilson's interval (1927).

        p = (wins + ties / 2) / N,   centre = (p + z^2 / 2N) / (1 + z^2 / N)
        half = z / (1 + z^2 / N) * sqrt(p (1 - p) / N + z^2 / 4N^2)

    The interval is a binomial's. Ties make the share vary less than that, so with many ties it is too wide,
    never too narrow.

    Args:
        a, b: one value per prompt in the same order, (N,), higher wins; finite.

    Returns:
        WinRate. With 8 wins of 10 and no tie its share is 0.8 [0.490, 0.943].
    """
    first, second = as_pair(a, b)
    wins, losses = int((first > second).sum()), int((first < second).sum())
    count = len(first)
    ties = count - wins - losses
    return WinRate(wins, ties, losses, wilson((wins + ties / 2) / count, count, level=level))


def wilson(share: float, count: int, *, level: float = 0.95) -> Estimate:
    """A share of `count` with the interval of `win_rate`'s formula."""
    z = float(norm.ppf(0.5 + level / 2))
    spread = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / spread
    half = z / spread * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def plain_average(scores: Mapping[str, Values]) -> Floats:
    """Mean of the judges' raw scores, prompt by prompt: the "average" of arXiv 2402.10210, section 6.

    The judges' units differ, so the one with the largest numbers rules: of PickScore 21.20, aesthetic 5.77,
    ImageReward 0.82 and HPS 0.27 (SD-1.5 in the rebuttal) the average is 7.01, three quarters of it PickScore.

    Args:
        scores: by judge, one value per prompt in the same order, (N,).

    Returns:
        (N,).
    """
    return np.asarray(np.mean([as_vector(values) for values in scores.values()], axis=0))


def z_average(scores: Mapping[str, Values], base: Mapping[str, Values]) -> Floats:
    """Mean over judges of (x - mean of base) / sd of base: ours, not the paper's; every judge counts alike.

    Args:
        scores: by judge, one value per prompt, (N,).
        base: the same judges on the base model, (M,) each; sd over its prompts with M - 1.

    Returns:
        (N,), in standard deviations of the base. A judge to which all of the base's prompts are alike has no
        scale and is left out; NaN where none is left. Base 1, 2, 3 (mean 2, sd 1): a score of 4 is 2.
    """
    rows = []
    for judge, values in scores.items():
        yardstick = as_vector(base[judge])
        spread = float(yardstick.std(ddof=1)) if len(yardstick) > 1 else 0.0
        if spread > 0:
            rows.append((as_vector(values) - yardstick.mean()) / spread)
    if not rows:
        return np.full(len(as_vector(next(iter(scores.values())))), math.nan)
    return np.asarray(np.mean(rows, axis=0))


def sample_size(differences: Values, *, level: float = 0.95, power: float = POWER) -> SampleSize:
    """How many prompts show the observed mean difference, and which difference these prompts can show.

        needed   = ((z(level) + z(power)) * sd / mean)^2,   rounded up
        smallest = (z(level) + z(power)) * sd / sqrt(N)

    The normal approximation for a paired two-sided test, z(level) = 1.960 and z(power) = 0.842 at 95 % and a
    power of 80 % (Cohen 1988, ch. 2). The observed difference is itself uncertain: `needed` is advice.

    Args:
        differences: a - b of each prompt, (N,), N at least 2; sd with N - 1.

    Returns:
        SampleSize. With sd 1 and mean 0.5: (2.802 / 0.5)^2 = 31.4, so 32 prompts.
    """
    array = as_vector(differences)
    if len(array) < 2:
        raise ValueError("one difference has no spread; at least two are needed")
    factor = float(norm.ppf(0.5 + level / 2) + norm.ppf(power))
    effect, spread = abs(float(array.mean())), float(array.std(ddof=1))
    needed = None if effect == 0 else max(1, math.ceil((factor * spread / effect) ** 2))
    return SampleSize(len(array), needed, factor * spread / math.sqrt(len(array)))
