import pytest

from spin.core.statistics import Estimate
from spin.report import figures
from spin.report.request import Column, Comparison

SCORE = Column("aesthetic", "Aesthetic", 2, lower_is_better=False, per_prompt=True)
SHARE = Column("attributes", "Attributes", 3, lower_is_better=False, per_prompt=True, percent=True)
LOSS = Column("denoising", "Held-out loss", 5, lower_is_better=True, per_prompt=True)


def test_values_differences_and_intervals_share_their_decimals():
    assert figures.level(SCORE, 7.861) == "7.86"
    assert figures.difference(SCORE, Estimate(0.85, 0.79, 0.911)) == "+0.85 [0.79, 0.91]"
    assert figures.difference(SCORE, Estimate(-0.5, -1, 0.2)) == "\u22120.50 [\u22121.00, 0.20]"


def test_shares_are_percent_and_their_differences_percentage_points():
    assert figures.level(SHARE, 0.887) == "88.7 %"
    assert figures.difference(SHARE, Estimate(0.098, 0.01, 0.2)) == "+9.8 pp [1.0, 20.0]"


def test_zero_has_no_sign():
    assert figures.signed(SCORE, -0.001) == "0.00"
    assert figures.number(-0.0001, 2) == "0.00"


def test_what_is_missing_is_a_dash():
    assert figures.level(SCORE, None) == figures.NOTHING


@pytest.mark.parametrize(
    ("column", "estimate", "word"),
    [
        (SCORE, Estimate(1, 0.5, 1.5), "better"),
        (SCORE, Estimate(-1, -1.5, -0.5), "worse"),
        (LOSS, Estimate(-1, -1.5, -0.5), "better"),
        (LOSS, Estimate(1, 0.5, 1.5), "worse"),
        (SCORE, Estimate(1, -0.1, 2), "same"),
    ],
)
def test_better_follows_the_direction_of_the_metric(column, estimate, word):
    assert figures.outcome(column, Comparison("base", "base", estimate, None)) == word


def test_durations_read_like_a_clock():
    assert [figures.duration(s) for s in (5.25, 65, 3599.6, 7260)] == [
        "5.2 s",
        "1 min 05 s",
        "1 h 00 min",
        "2 h 01 min",
    ]
