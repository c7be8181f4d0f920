"""Shows a room's progress: a bar with the time left on a terminal, plain lines elsewhere, and on the task's page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from spin.core import progress as core

console: Final = Console()
_PLAIN_SECONDS: Final = 10.0  # between two lines where there is no terminal


@contextmanager
def shown(label: str) -> Iterator[core.Progress]:
    """A progress callback under `label` while the block runs."""
    from tasks.telling import ProgressArtifact  # Prefect: 2 s, which `status` and `doctor` do not pay

    page = ProgressArtifact(label)
    with _bar(label) if console.is_terminal else nullcontext(_Lines(label)) as here:

        def tell(done: int, total: int, note: str = "") -> None:
            here(done, total, note)
            page(done, total)

        yield tell
    page.end()


@contextmanager
def _bar(label: str) -> Iterator[core.Progress]:
    columns = (
        TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        task: TaskID = bars.add_task(label, total=None, note="")

        def tell(done: int, total: int, note: str = "") -> None:
            bars.update(task, completed=done, total=total, note=note)

        yield tell


class _Lines:
    """A line now and then, with an estimate of the seconds left."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._start = self._told = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if not done and note:  # what is waited for
            console.print(f"{self._label}: {note}", highlight=False)
        if now - self._told < _PLAIN_SECONDS or not done:
            return
        self._told = now
        left = (now - self._start) / done * (total - done)
        console.print(f"{self._label}: {done}/{total}, {left:.0f} s left {note}".rstrip(), highlight=False)
