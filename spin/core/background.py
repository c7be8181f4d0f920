"""Work that is done in a background thread, in its order, while the caller goes on: encoding, writing, hashing."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Semaphore, Thread
from types import TracebackType
from typing import Self


class Background:
    """Does one job after another, and holds one; with the end of the block all that was handed over is done.

    What a job raises is raised where the block is: at the next question, or at its end. Jobs behind it are not begun.
    Errors of the block itself wait until the jobs before them are done; one of a job goes before them, it is of
    earlier work.
    """

    def __init__(self) -> None:
        # Nothing waits to put: else an interrupt could leave without the end's None, and the thread would never end.
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._free = Semaphore()  # released where the job is over, and what it held is free
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
        """Have a job done; waits while another one is at work."""
        self.refuse_failed()
        self._free.acquire()
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
            self._free.release()
