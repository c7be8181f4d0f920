"""One row that cannot be used, while the others can: it is set aside with its reason."""

from __future__ import annotations

from typing import Final

UNREADABLE: Final = "unreadable"
NOT_FINITE: Final = "not finite"
TOO_MANY_PIXELS: Final = "too many pixels"


class Rejected(Exception):
    """One row cannot be used; the others can."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
