"""Each number is worked by hand in a comment, or by a simulation of what an interval promises."""

import numpy as np
import pytest

from spin.core.comparison import plain_average, sample_size, wilson, win_rate, z_average
from spin.core.statistics import distinguishable, paired_difference


def test_win_rate_has_the_wilson_interval_of_the_books():
    # 8 of 10, z = 1.95996: 0.4902 to 0.9433
    share = win_rate([1] * 8 + [0] * 2, [0] * 8 + [1] * 2).share
    assert (share.value, share.low, share.high) == pytest.approx((0.8, 0.49016, 0.94332), abs=1e-5)


def test_wins_ties_and_losses_are_counted_and_a_tie_is_half_a_win():
    # 2 wins, 1 tie, 1 loss: (2 + 1 / 2) / 4 = 0.625
    found = win_rate([1, 1, 5, 0], [0, 0, 5, 1])
    assert (found.wins, found.ties, found.losses, found.prompts) == (2, 1, 1, 4)
    assert found.share.value == 0.625
    # 1 win, 1 loss, 2 ties: (1 + 2 / 2) / 4 = 0.5
    assert win_rate([1, 0, 5, 5], [0, 1, 5, 5]).share.value == 0.5


def test_equal_models_tie_on_every_prompt():
    values = np.random.default_rng(0).normal(size=50)
    found = win_rate(values, values)
    assert (found.wins, found.ties, found.losses, found.share.value) == (0, 50, 0, 0.5)
    assert not distinguishable(found.share, from_value=0.5)


def test_a_clean_sweep_stays_within_0_and_1():
    share = win_rate([1] * 20, [0] * 20).share
    assert share.value == share.high == 1.0
    assert 0.8 < share.low < 0.9


def test_swapping_models_mirrors_the_win_rate():
    a, b = np.random.default_rng(0).normal(size=(2, 33))
    ahead, behind = win_rate(a, b), win_rate(b, a)
    assert (ahead.wins, ahead.losses) == (behind.losses, behind.wins)
    mirrored = (1 - behind.share.value, 1 - behind.share.high, 1 - behind.share.low)
    assert (ahead.share.value, ahead.share.low, ahead.share.high) == pytest.approx(mirrored)


@pytest.mark.parametrize("share", [0.5, 0.6, 0.85])
def test_95_percent_wilson_intervals_cover_95_percent(share):
    # 20 000 experiments of 500 prompts
    won = np.random.default_rng(3).binomial(500, share, size=20_000)
    intervals = {count: wilson(count / 500, 500) for count in np.unique(won)}
    covered = [intervals[count].low <= share <= intervals[count].high for count in won]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_ties_never_make_the_interval_too_narrow():
    # 60 % ties, 24 % wins, 16 % losses: a share of 0.54; the binomial width is more than is needed
    rng = np.random.default_rng(4)
    drawn = rng.choice([1.0, 0.5, 0.0], p=[0.24, 0.6, 0.16], size=(4000, 200)).mean(axis=1)
    found = [wilson(value, 200) for value in drawn]
    assert np.mean([interval.low <= 0.54 <= interval.high for interval in found]) > 0.99


def test_win_rates_of_no_prompt_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        win_rate([], [])


def test_the_plain_average_is_that_of_the_rebuttal():
    # SD-1.5: (0.2699 + 5.7691 + 0.8159 + 21.1983) / 4 = 7.0133
    scores = {"hpsv2": [0.2699], "aesthetic": [5.7691], "image_reward": [0.8159], "pickscore": [21.1983]}
    assert plain_average(scores).tolist() == [pytest.approx(7.0133)]
    assert scores["pickscore"][0] / (4 * 7.0133) == pytest.approx(0.756, abs=1e-3)  # three quarters of it


def test_z_scores_count_every_judge_alike():
    # base a: 1, 2, 3 -> mean 2, sd 1; base b: 100, 200, 300 -> mean 200, sd 100
    base = {"a": [1.0, 2.0, 3.0], "b": [100.0, 200.0, 300.0]}
    # ((4 - 2) / 1 + (200 - 200) / 100) / 2 = 1;  ((2 - 2) / 1 + (500 - 200) / 100) / 2 = 1.5
    assert z_average({"a": [4.0, 2.0], "b": [200.0, 500.0]}, base).tolist() == [1.0, 1.5]
    assert z_average(base, base).mean() == pytest.approx(0)


def test_a_judge_without_spread_has_no_scale():
    base = {"a": [1.0, 2.0, 3.0], "b": [1.0, 1.0, 1.0]}
    assert z_average({"a": [3.0], "b": [9.0]}, base).tolist() == [1.0]
    assert np.isnan(z_average({"b": [9.0]}, {"b": [1.0, 1.0]})).all()


def test_prompts_needed_and_the_smallest_difference_by_hand():
    # mean 0.5, sd 1: (1.95996 + 0.84162)^2 / 0.25 = 31.40 -> 32;  2.80159 / sqrt(3) = 1.61750
    found = sample_size([-0.5, 0.5, 1.5])
    assert (found.prompts, found.needed) == (3, 32)
    assert found.smallest == pytest.approx(1.61750, abs=1e-5)
    assert sample_size([-1.0, 1.0]).needed is None  # no effect was seen
    assert sample_size([0.5, 0.5]).needed == 1  # and an effect without spread shows at once


def test_the_advised_number_of_prompts_shows_the_effect_in_four_runs_of_five():
    # mean 0.2, sd 1: 7.849 / 0.04 = 196.2 -> 197 prompts; at a power of 0.8, 80 % +- 2.5 % of 2000 experiments
    rng = np.random.default_rng(8)
    pilot = rng.normal(size=5000)
    pilot = 0.2 + (pilot - pilot.mean()) / pilot.std(ddof=1)
    assert sample_size(pilot).needed == 197
    drawn = rng.normal(0.2, 1.0, size=(2000, 197))
    shown = np.abs(drawn.mean(axis=1)) > 1.96 * drawn.std(axis=1, ddof=1) / np.sqrt(197)
    assert shown.mean() == pytest.approx(0.8, abs=0.025)


def test_a_difference_at_the_smallest_one_is_told_apart():
    rng = np.random.default_rng(9)
    noise = rng.normal(size=300)
    noise -= noise.mean()
    smallest = sample_size(noise + 1).smallest
    assert distinguishable(paired_difference(noise + smallest, np.zeros(300), seed=0))
    assert not distinguishable(paired_difference(noise + smallest / 2, np.zeros(300), seed=0))


def test_one_difference_has_no_spread():
    with pytest.raises(ValueError, match="at least two"):
        sample_size([1.0])
