from __future__ import annotations

from collections.abc import Callable

import pytest

from spin.core.micro_batch import Found, Tried, find_largest


def machine(*, base: int = 100, each: int = 10, full: int, seconds: float = 1.0) -> Callable[[int], Tried]:
    """A device of `full` bytes that refuses more; a pass takes `each` for each pair, and larger ones are faster."""

    def attempt(size: int) -> Tried:
        peak = base + each * size
        fits = peak <= full
        return Tried(size, base, peak if fits else None, float(min(size, 24)) if fits else 0.0, seconds)

    return attempt


def search(attempt: Callable[[int], Tried], *, limit: int, most: int = 1024, enforced: bool = True) -> Found:
    return find_largest(attempt, most=most, limit_bytes=limit, enforced=enforced, seconds=1e9)


def sizes(found: Found) -> list[int]:
    return [one.size for one in found.tried]


@pytest.mark.parametrize("largest", [1, 2, 3, 5, 31, 32, 33, 100, 1023, 1024])
def test_the_largest_is_found_whatever_it_is(largest: int) -> None:
    full = 100 + 10 * largest + 9
    found = search(machine(full=full), limit=full)
    assert (found.largest, found.complete) == (largest, True)
    assert len(sizes(found)) == len(set(sizes(found))) <= 21  # 2 log2(1024) + 1


def test_sizes_are_doubled_and_then_halved_between_the_two() -> None:
    full = 100 + 10 * 21
    assert sizes(search(machine(full=full), limit=full)) == [1, 2, 4, 8, 16, 32, 24, 20, 22, 21]


def test_what_the_batch_has_no_use_for_is_not_tried() -> None:
    found = search(machine(full=10**9), limit=10**9, most=12)
    assert sizes(found) == [1, 2, 4, 8, 12]
    assert found.largest == 12


def test_where_nothing_refuses_the_limit_is_never_passed() -> None:
    found = search(machine(full=10**9), limit=100 + 10 * 21, enforced=False)
    assert found.largest == 21
    assert max(one.peak_bytes or 10**9 for one in found.tried) <= 100 + 10 * 21


def test_a_size_that_took_more_than_it_may_does_not_fit() -> None:
    found = search(machine(full=10**9), limit=100 + 10 * 21)
    assert found.largest == 21
    assert [one.size for one in found.tried if one.peak_bytes is None] == [32, 24, 22]


def test_nothing_fits() -> None:
    found = search(machine(full=50), limit=50)
    assert (found.largest, found.fastest, sizes(found)) == (0, 0, [1])


def test_the_fastest_need_not_be_the_largest() -> None:
    found = search(machine(full=100 + 10 * 64), limit=100 + 10 * 64)
    assert (found.largest, found.fastest) == (64, 32)  # both do 24 a second: the smaller one, which takes less memory


def test_a_search_ends_before_its_time_is_over_and_says_so() -> None:
    spent: list[float] = []

    def attempt(size: int) -> Tried:
        spent.append(float(size))
        return Tried(size, 100, 100 + size, 1.0, float(size))

    found = find_largest(attempt, most=1024, limit_bytes=10**9, enforced=True, seconds=20.0)
    assert (sizes(found), found.complete) == ([1, 2, 4, 8], False)  # 16 more would make 31
    assert sum(spent) <= 20
