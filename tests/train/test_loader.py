"""Reading ahead: in order, bounded, with the errors where they belong, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from spin.train.loader import Loader


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_items_come_in_their_order_and_only_a_few_ahead() -> None:
    made: list[int] = []
    turned = threading.Condition()

    def items() -> Iterator[int]:
        for number in count():
            with turned:
                made.append(number)
                turned.notify()
            yield number

    loader = Loader(items())
    try:
        for number in range(20):
            assert loader.next() == number
            with turned:
                assert turned.wait_for(lambda due=number + 4: len(made) >= due, timeout=60)  # 3 behind the one taken
                assert len(made) == number + 4
    finally:
        loader.close()
    assert alive() == []


def test_what_the_thread_raises_is_raised_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("the disk is gone")

    loader = Loader(items())
    assert [loader.next(), loader.next()] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        loader.next()
    loader.close()
    assert alive() == []


def test_only_waiting_counts_as_a_stall() -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        gate.wait(60)
        yield 1

    loader = Loader(items())
    assert loader.next() == 0
    before = loader.stall_seconds
    threading.Timer(0.3, gate.set).start()
    assert loader.next() == 1
    assert loader.stall_seconds - before >= 0.2
    loader.close()


def test_work_is_done_in_one_thread_that_is_not_the_asking_one() -> None:
    def items() -> Iterator[int]:
        while True:
            yield threading.get_ident()

    loader = Loader(items())
    found = {loader.next() for _ in range(10)}
    loader.close()
    assert len(found) == 1
    assert threading.get_ident() not in found
