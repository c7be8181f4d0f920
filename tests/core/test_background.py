from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Event, current_thread
from typing import Any

import pytest

from spin.core.background import Background

PATIENCE = 60.0  # seconds after which a test that hangs fails


class Load:
    """Something that a job holds."""


def test_jobs_are_done_in_order_elsewhere_and_before_the_block_ends() -> None:
    done: list[tuple[int, bool]] = []
    with Background() as background:
        for number in range(20):
            background.hand_over(lambda n=number: done.append((n, current_thread().name == "background")))
    assert done == [(number, True) for number in range(20)]


def test_the_caller_goes_on_while_a_job_is_at_work() -> None:
    gone_on = Event()
    seen: list[bool] = []
    with Background() as background:
        background.hand_over(lambda: seen.append(gone_on.wait(PATIENCE)))
        gone_on.set()
    assert seen == [True]


def test_one_job_waits_and_the_next_one_makes_the_caller_wait() -> None:
    begun, free = Event(), Event()
    order: list[str] = []

    def first() -> None:
        begun.set()
        free.wait(PATIENCE)
        order.append("first")

    with Background() as background:
        background.hand_over(first)
        assert begun.wait(PATIENCE)
        background.hand_over(lambda: order.append("second"))  # waits, and nobody for it
        assert background._jobs.full()
        free.set()
        background.hand_over(lambda: order.append("third"))
        order.append("handed over")
    assert order.index("first") < order.index("handed over")
    assert [name for name in order if name != "handed over"] == ["first", "second", "third"]


def fail() -> None:
    raise OSError("disk")


def play(*jobs: Callable[[], None], then: BaseException | None = None) -> None:
    with Background() as background:
        for job in jobs:
            background.hand_over(job)
        if then is not None:
            raise then


def test_an_error_ends_the_block_and_no_later_job_is_begun() -> None:
    done: list[int] = []
    with pytest.raises(OSError, match="disk"):
        play(lambda: done.append(1), fail, lambda: done.append(2), lambda: done.append(3))
    assert done == [1]


def ask_after_a_failure(ask: Callable[[Background], None]) -> None:
    with Background() as background:
        background._jobs.put(fail)
        for _ in range(2):
            background._jobs.put(lambda: None)  # the second is put when the first is taken: the failing one is over
        ask(background)
        pytest.fail("went on")


@pytest.mark.parametrize(
    "ask", [Background.refuse_failed, lambda background: background.hand_over(fail)], ids=["refuse_failed", "hand_over"]
)
def test_an_error_is_told_at_the_next_question(ask: Callable[[Background], None]) -> None:
    with pytest.raises(OSError, match="disk"):
        ask_after_a_failure(ask)


def test_an_error_of_the_block_waits_for_the_jobs_before_it() -> None:
    done: list[int] = []
    with pytest.raises(ValueError, match="drawing"):
        play(lambda: done.append(0), lambda: done.append(1), then=ValueError("drawing"))
    assert done == [0, 1]


def test_of_two_errors_the_earlier_works_one_is_told_and_a_cancel_stays_one() -> None:
    with pytest.raises(OSError, match="disk") as caught:
        play(fail, then=ValueError("drawing"))
    assert isinstance(caught.value.__context__, ValueError)
    with pytest.raises(KeyboardInterrupt):
        play(fail, then=KeyboardInterrupt())


def test_a_job_that_is_done_holds_nothing() -> None:
    load = Load()
    seen = weakref.ref(load)
    done: Any = Event()
    with Background() as background:
        background.hand_over(lambda kept=load: done.set())
        del load
        assert done.wait(PATIENCE)
        background.hand_over(Event().set)
        background.hand_over(Event().set)
        assert seen() is None
