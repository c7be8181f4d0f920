"""Each number is worked by hand in a comment, or by a simulation of what an interval promises."""

import tracemalloc

import numpy as np
import pytest
from scipy.linalg import sqrtm

from spin.core.statistics import (
    Estimate,
    distinguishable,
    frechet_distance,
    frechet_distance_of_features,
    mean,
    mean_interval,
    median,
    paired_difference,
    percentile_interval,
    resampled_means,
)


def test_mean_and_median_of_a_skewed_list():
    assert mean([1.0, 2.0, 9.0]) == 4.0
    assert median([1.0, 2.0, 9.0]) == 2.0


def test_a_paired_difference_is_the_mean_of_the_differences():
    # (1 - 0 + 4 - 2 + 3 - 3) / 3 = 1
    estimate = paired_difference([1, 4, 3], [0, 2, 3], seed=0)
    assert estimate.value == pytest.approx(1.0)
    assert (estimate.low, estimate.high) == (0.0, 2.0)


def test_equal_inputs_differ_by_exactly_nothing():
    values = np.random.default_rng(0).normal(size=50)
    assert paired_difference(values, values, seed=3) == Estimate(0.0, 0.0, 0.0)


def test_a_constant_gain_has_no_width():
    assert paired_difference([1.5, 2.5, 3.5], [1, 2, 3], seed=1) == Estimate(0.5, 0.5, 0.5)


def test_pairing_removes_what_prompts_have_in_common():
    rng = np.random.default_rng(0)
    hardness = 10 * rng.normal(size=100)
    a, b = hardness + 1 + 0.1 * rng.normal(size=100), hardness
    estimate = paired_difference(a, b, seed=0)
    assert estimate.high - estimate.low < 0.1
    assert distinguishable(estimate)


def test_the_interval_is_a_function_of_values_and_seed():
    a, b = np.random.default_rng(0).normal(size=(2, 40))
    assert paired_difference(a, b, seed=7) == paired_difference(a, b, seed=7)
    assert paired_difference(a, b, seed=7) != paired_difference(a, b, seed=8)


def test_the_bootstrap_width_is_that_of_the_normal_theory():
    values = np.random.default_rng(1).normal(size=400)
    estimate = mean_interval(values, seed=0)
    # 2 * 1.96 * s / sqrt(400)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.03)


def test_95_percent_intervals_cover_95_percent():
    data = np.random.default_rng(2).normal(loc=0.3, size=(200, 4000))  # 4000 experiments of 200 prompts
    low, high = percentile_interval(resampled_means(data, seed=5, resamples=1500), level=0.95)
    assert np.mean((low <= 0.3) & (high >= 0.3)) == pytest.approx(0.95, abs=0.015)


def test_95_percent_intervals_of_paired_differences_cover_95_percent():
    # 3000 experiments of 150 prompts, 1000 resamples each: what prompts have in common must not matter
    rng = np.random.default_rng(6)
    hardness = 5 * rng.normal(size=(150, 3000))
    a, b = hardness + rng.gamma(4.0, 0.25, size=(150, 3000)), hardness + 0.8 + 0.5 * rng.normal(size=(150, 3000))
    low, high = percentile_interval(resampled_means(a - b, seed=1, resamples=1000), level=0.95)
    assert np.mean((low <= 0.2) & (high >= 0.2)) == pytest.approx(0.95, abs=0.015)  # 4 * 0.25 - 0.8


def test_columns_are_resampled_as_if_each_stood_alone():
    data = np.random.default_rng(3).normal(size=(30, 2))
    together = percentile_interval(resampled_means(data, seed=5, resamples=500), level=0.9)
    alone = mean_interval(data[:, 1], seed=5, resamples=500, level=0.9)
    assert together[:, 1] == pytest.approx([alone.low, alone.high])


def test_many_prompts_need_little_memory():
    a = np.random.default_rng(0).normal(size=20_000)
    tracemalloc.start()
    paired_difference(a, np.zeros_like(a), seed=0, resamples=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20  # one array of all draws alone would be 48 MB, its weights as much again


def test_an_interval_that_holds_zero_is_not_distinguishable():
    assert not distinguishable(Estimate(0.1, -0.1, 0.3))
    assert not distinguishable(Estimate(0.1, 0.0, 0.3))
    assert distinguishable(Estimate(-0.2, -0.3, -0.1))
    assert distinguishable(Estimate(0.6, 0.55, 0.65), from_value=0.5)


def test_values_of_different_number_cannot_be_paired():
    with pytest.raises(ValueError, match="3 and 2"):
        paired_difference([1, 2, 3], [1, 2], seed=0)


def test_no_value_has_no_mean():
    with pytest.raises(ValueError, match="at least one"):
        mean([])


def test_frechet_distance_in_one_dimension():
    # (0 - 3)^2 + (sqrt 1 - sqrt 4)^2 = 10
    assert frechet_distance(np.zeros(1), np.eye(1), np.full(1, 3.0), 4 * np.eye(1)) == pytest.approx(10)


def test_frechet_distance_agrees_with_the_matrix_root_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 5)), rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5)) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(0) - b.mean(0)
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance_of_features(a, b) == pytest.approx(expected)
    assert frechet_distance_of_features(b, a) == pytest.approx(expected)


def test_frechet_distance_to_oneself_is_zero_even_where_features_depend_on_each_other():
    features = np.random.default_rng(0).normal(size=(10, 3)) @ np.random.default_rng(1).normal(size=(3, 20))
    assert 0 <= frechet_distance_of_features(features, features) < 1e-9
