"""Which calls of the network are guided, and in which its deep blocks run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spin.core.approximation import EXACT, Approximation, rows_asked


def guided(approximation: Approximation, count: int) -> list[int]:
    return [number for number, call in enumerate(approximation.calls(count, guided=True)) if call.guided]


def deep(approximation: Approximation, count: int, *, guided: bool = True) -> list[int]:
    return [number for number, call in enumerate(approximation.calls(count, guided=guided)) if call.deep]


def test_exact_sampling_leaves_nothing_out() -> None:
    calls = EXACT.calls(20, guided=True)
    assert len(calls) == 20
    assert all(call.guided and call.deep for call in calls)
    assert (EXACT.settings, str(EXACT)) == ({}, "")
    assert rows_asked(calls) == 40


def test_without_guidance_an_interval_asks_for_none() -> None:
    assert not any(call.guided for call in Approximation((0.2, 0.8)).calls(10, guided=False))


@pytest.mark.parametrize(
    ("interval", "count", "numbers"),
    [
        ((0.0, 1.0), 4, [0, 1, 2, 3]),
        ((0.0, 0.5), 4, [0, 1]),  # calls are at 1/8, 3/8, 5/8, 7/8
        ((0.5, 1.0), 4, [2, 3]),
        ((0.25, 0.75), 20, list(range(5, 15))),
        ((0.0, 0.1), 4, []),  # an interval between two calls
        ((0.125, 0.375), 4, [0]),  # closed below, open above
    ],
)
def test_an_interval_is_a_share_of_the_way(interval: tuple[float, float], count: int, numbers: Sequence[int]) -> None:
    assert guided(Approximation(interval), count) == numbers


def test_deep_blocks_run_in_every_so_many_calls() -> None:
    assert deep(Approximation(reuse_every=3), 10) == [0, 3, 6, 9]
    assert deep(Approximation(reuse_every=1), 3) == [0, 1, 2]
    assert deep(Approximation(reuse_every=99), 5, guided=False) == [0]


def test_deep_blocks_run_anew_where_the_batch_changes() -> None:
    both = Approximation((0.2, 0.7), 3)
    assert guided(both, 10) == [2, 3, 4, 5, 6]
    assert deep(both, 10) == [0, 2, 5, 7]
    assert rows_asked(both.calls(10, guided=True)) == 15


def test_what_is_on_is_named() -> None:
    assert Approximation((0.2, 0.75)).settings == {"guidance_interval": [0.2, 0.75]}
    assert Approximation(reuse_every=2).settings == {"reuse_every": 2}
    both = Approximation((0.2, 0.75), 12)
    assert (
        str(both)
        == "guidance from 0.2 to 0.75 of the way from noise to picture, deep features of every 12th call reused"
    )
    assert [str(Approximation(reuse_every=n)).split()[4] for n in (2, 3, 11, 21, 23)] == [
        "2nd", "3rd", "11th", "21st", "23rd",
    ]  # fmt: skip
