"""Numbers with their uncertainty: means, paired differences, and distances of sets of pictures.

The prompt is the unit of resampling: two models are compared on the same prompts, so a prompt that is
hard for both does not widen the interval. Intervals are per metric and unadjusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Values = Sequence[float] | Floats

_KEPT_VALUES: Final = 1 << 22  # draws that are kept for the next interval: 32 MB
_CHUNK_VALUES: Final = 1 << 20  # draws held at a time: 8 MB, whatever the number of prompts


@dataclass(frozen=True)
class Estimate:
    """A value and the interval around it, in the unit of the metric."""

    value: float
    low: float
    high: float


def mean(values: Values) -> float:
    return float(np.mean(as_vector(values)))


def median(values: Values) -> float:
    return float(np.median(as_vector(values)))


def mean_interval(values: Values, *, seed: int, resamples: int = 10_000, level: float = 0.95) -> Estimate:
    """Mean over prompts with its percentile bootstrap interval."""
    array = as_vector(values)
    low, high = percentile_interval(resampled_means(array, seed=seed, resamples=resamples), level=level)
    return Estimate(float(array.mean()), float(low), float(high))


def paired_difference(a: Values, b: Values, *, seed: int, resamples: int = 10_000, level: float = 0.95) -> Estimate:
    """Mean of a - b over the same prompts, percentile bootstrap over prompts (Efron and Tibshirani 1993, ch. 13).

    Args:
        a, b: one value per prompt in the same order, (N,).
        seed: the interval is a function of the values and of this number.
        resamples: bootstrap repetitions.
        level: share of repetitions inside the interval.

    Returns:
        Estimate in the metric's unit. Where a equals b it is 0 [0, 0].
    """
    first, second = as_pair(a, b)
    return mean_interval(first - second, seed=seed, resamples=resamples, level=level)


def distinguishable(estimate: Estimate, *, from_value: float = 0.0) -> bool:
    """False where the interval holds `from_value`: 0 for a difference, 0.5 for a win rate."""
    return not estimate.low <= from_value <= estimate.high


def resampled_means(values: Floats, *, seed: int, resamples: int) -> Floats:
    """Means of bootstrap resamples of the rows, (N,) -> (resamples,) or (N, M) -> (resamples, M).

    Every column sees the same draws. Draws are made in chunks of about a million.
    """
    count = len(values)
    few = count * resamples <= _KEPT_VALUES
    # Deviations are averaged, not values: equal values then give exactly equal means.
    apart = values - values[0]
    weights = _kept_weights(count, seed, resamples) if few else _weights(count, seed, resamples)
    return values[0] + np.concatenate([chunk @ apart for chunk in weights]) / count


def _weights(count: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each resample draws each row, in chunks (n, count)."""
    rng = np.random.Generator(np.random.Philox(seed))
    rows = max(1, _CHUNK_VALUES // count)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(float)


@lru_cache(maxsize=2)
def _kept_weights(count: int, seed: int, resamples: int) -> tuple[Floats, ...]:
    """Tables ask for hundreds of intervals over the same few rows."""
    return tuple(_weights(count, seed, resamples))


def percentile_interval(resampled: Floats, *, level: float) -> Floats:
    """Both ends of the central share `level` of the resamples, (2,) or (2, M)."""
    return np.asarray(np.quantile(resampled, [0.5 - level / 2, 0.5 + level / 2], axis=0))


def frechet_distance(mean_a: Floats, covariance_a: Floats, mean_b: Floats, covariance_b: Floats) -> float:
    """Squared Frechet distance of two Gaussians (Dowson and Landau 1982), the "FID" of arXiv 1706.08500, Eq. (6).

        |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr (A^1/2 B A^1/2)^1/2

    The last trace is the sum of the singular values of A^1/2 B^1/2: no complex roots, symmetric in A and B.

    Args:
        mean_a, mean_b: (D,). covariance_a, covariance_b: (D, D), symmetric.

    Returns:
        A number >= 0; 0 for equal Gaussians. In one dimension, means 0 and 3, variances 1 and 4: 9 + (1 - 2)^2 = 10.
    """
    shift = np.asarray(mean_a, float) - np.asarray(mean_b, float)
    overlap = np.linalg.svd(_root(covariance_a) @ _root(covariance_b), compute_uv=False).sum()
    spread = np.trace(np.asarray(covariance_a, float)) + np.trace(np.asarray(covariance_b, float)) - 2 * overlap
    return max(0.0, float(shift @ shift + spread))


def frechet_distance_of_features(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Frechet distance of two sets of features, (N, D) and (M, D); covariances with N - 1, at least two rows each."""
    first, second = np.asarray(a, float), np.asarray(b, float)
    covariances = [np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (first, second)]
    return frechet_distance(first.mean(axis=0), covariances[0], second.mean(axis=0), covariances[1])


def _root(covariance: npt.NDArray[Any]) -> Floats:
    """Symmetric square root of a covariance; eigenvalues that rounding made negative count as 0."""
    matrix = np.asarray(covariance, float)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def as_pair(a: Values, b: Values) -> tuple[Floats, Floats]:
    """Two lists of values of the same prompts."""
    first, second = as_vector(a), as_vector(b)
    if len(first) != len(second):
        raise ValueError(f"paired values differ in number: {len(first)} and {len(second)}")
    return first, second


def as_vector(values: Values) -> Floats:
    """One value per prompt, (N,), N at least 1."""
    array = np.asarray(values, float)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected one value per prompt, at least one; got shape {array.shape}")
    return array
