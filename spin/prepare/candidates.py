"""A row as it was found, before anybody looked at it, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

UNREADABLE: Final = "unreadable"
TOO_MANY_PIXELS: Final = "too many pixels"
NO_CAPTION: Final = "no caption"
NOT_TEXT: Final = "caption not text"
MISSING_FILE: Final = "missing file"
DUPLICATE: Final = "duplicate"


class Rejected(Exception):
    """One row cannot be used; the others can."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Candidate:
    """`read` gives the picture's bytes or raises Rejected; nothing is read before it is called."""

    origin: str
    read: Callable[[], bytes]
    caption: object
