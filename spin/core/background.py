"""Work that is done in a background thread, in its order, while the caller goes on: encoding, writing, hashing."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Final, Self

_WAITING: Final = 1  # jobs beside the one at work: what they hold stays in memory


class Background:
    """Does one job after another; with the end of the block all that was handed over is done.

    What a job raises is raised where the block is: at the next question, or at its end. Jobs behind it are not begun.
    Errors of the block itself wait until the jobs before them are done; one of a job goes before them, it is of
    earlier work.
    """

    def __init__(self) -> None:
        self._jobs: Queue[Callable[[], None] | None] = Queue(maxsize=_WAITING)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="background")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._jobs.put(None)
        self._thread.join()
        own = error is None or isinstance(error, Exception)  # a cancel stays a cancel
        if self._error is not None and self._error is not error and own:
            raise self._error

    def hand_over(self, job: Callable[[], None]) -> None:
        """Have a job done; waits while one is at work and another one waits."""
        self.refuse_failed()
        self._jobs.put(job)

    def refuse_failed(self) -> None:
        """Raise what a job has raised by now."""
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        for job in iter(self._jobs.get, None):
            if self._error is None:
                try:
                    job()
                except BaseException as error:  # raised again in the caller's thread
                    self._error = error
            del job  # or what it holds would stay until the next one comes
