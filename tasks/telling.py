"""Artifacts of a run on its pages in the UI; what cannot be told never stops the work."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext

from spin.report.request import ReportResult

_EVERY_SECONDS: Final = 5.0  # between two updates of a progress artifact; shorter tasks have none


def show_story(run: str, told: ReportResult) -> None:
    """The run's story, its score table and its contact sheet, each under one key that keeps its history."""
    key = artifact_key(run)
    _told(partial(create_markdown_artifact, key=f"{key}-story", markdown=told.story, description=f"story of {run}"))
    if told.scores:
        table = [dict(row) for row in told.scores]
        _told(partial(create_table_artifact, key=f"{key}-scores", table=table, description=f"scores of {run}"))
    if told.sheet is not None:
        # as data: the server may stand on another machine than the runs root, and both UIs show it
        data = base64.b64encode(told.sheet.read_bytes()).decode("ascii")
        sheet = f"![prompts by models](data:image/png;base64,{data})"
        _told(partial(create_markdown_artifact, key=f"{key}-sheet", markdown=sheet, description=f"pictures of {run}"))


def show_text(key: str, text: str, description: str) -> None:
    """One keyed page of Markdown."""
    _told(partial(create_markdown_artifact, key=artifact_key(key), markdown=text, description=description))


def show_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """One keyed table."""
    table = [dict(row) for row in rows]
    _told(partial(create_table_artifact, key=artifact_key(key), table=table, description=description))


def artifact_key(name: str) -> str:
    """A key of lower-case letters, digits and dashes; names that would share one are told apart."""
    key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return key if key == name else f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


class ProgressArtifact:
    """A bar on the task's page; created when the task turns out to be long."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._told = time.monotonic()
        self._artifact: UUID | None = None
        self._inside = TaskRunContext.get() is not None or FlowRunContext.get() is not None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._inside or total <= 0 or now - self._told < _EVERY_SECONDS:
            return
        self._told = now
        percent = 100.0 * done / total
        if self._artifact is None:
            self._artifact = _told(partial(create_progress_artifact, progress=percent, description=self._label))
        else:
            _told(partial(update_progress_artifact, self._artifact, progress=percent))

    def end(self) -> None:
        """The task is done; a bar that was shown is full."""
        if self._artifact is not None:
            _told(partial(update_progress_artifact, self._artifact, progress=100.0))


def _told(tell: Callable[[], Any]) -> Any:
    try:
        return tell()
    except Exception:  # the server's trouble is not the work's
        logging.getLogger(__name__).warning("an artifact could not be written", exc_info=True)
        return None
