"""Reads ahead of the training, in a thread of its own: what a pass reads is there when the device asks for it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

_AHEAD: Final = 3  # items that are made before they are asked for: one slow read is made up for by two quick ones


class Loader(Generic[Item]):
    """The items of an iterator in their order, each made by one thread while those before it are worked on.

    What the iterator raises is raised where its item would have come. `close` ends the thread; nothing is left of it.

    Args:
        items: work for the thread alone, which nobody else asks; it may be endless, three of them are kept.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self.stall_seconds = 0.0  # that `next` waited, in all
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._made: deque[Future[Item]] = deque(self._thread.submit(next, items) for _ in range(_AHEAD))

    def next(self) -> Item:
        start = time.perf_counter()
        item = self._made.popleft().result()
        self.stall_seconds += time.perf_counter() - start
        self._made.append(self._thread.submit(next, self._items))
        return item

    def close(self) -> None:
        """Wait for the read that is on its way, and read no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._made.clear()
