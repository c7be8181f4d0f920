from __future__ import annotations

import signal
import time
import weakref
from collections.abc import Callable
from threading import Event, current_thread, main_thread
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


def test_a_job_at_work_makes_the_next_one_wait_with_the_caller() -> None:
    free = Event()
    order: list[str] = []

    def first() -> None:
        free.wait(PATIENCE)
        order.append("first")

    with Background() as background:
        background.hand_over(first)  # nobody waits for it
        order.append("went on")
        free.set()
        background.hand_over(lambda: None)
        order.append("handed over")
    assert order == ["went on", "first", "handed over"]


def play(*jobs: Callable[[], None], then: BaseException | None = None, by: Background | None = None) -> None:
    with by or Background() as background:
        for job in jobs:
            background.hand_over(job)
        if then is not None:
            raise then


def interrupt() -> None:
    signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)


def test_interrupts_while_the_caller_waits_leave_a_thread_that_ends() -> None:
    free = Event()

    def first() -> None:
        time.sleep(0.1)  # by now the caller waits
        interrupt()
        until = time.monotonic() + PATIENCE
        while background._jobs.empty() and time.monotonic() < until:  # until the block is at its end
            time.sleep(0.001)
        time.sleep(0.1)
        interrupt()
        free.wait(PATIENCE)

    background = Background()
    with pytest.raises(KeyboardInterrupt):
        play(first, lambda: None, lambda: None, by=background)
    free.set()
    background._thread.join(5)
    assert not background._thread.is_alive()


def fail() -> None:
    raise OSError("disk")


def test_an_error_ends_the_block_and_no_later_job_is_begun() -> None:
    done: list[int] = []
    with pytest.raises(OSError, match="disk"):
        play(lambda: done.append(1), fail, lambda: done.append(2), lambda: done.append(3))
    assert done == [1]


def ask_after_a_failure(ask: Callable[[Background], None]) -> None:
    with Background() as background:
        background.hand_over(fail)
        assert background._free.acquire(timeout=PATIENCE)  # the failing one is over
        background._free.release()
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
        assert seen() is None
