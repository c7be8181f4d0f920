"""How a room tells how far it is; who shows it is not the room's business."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished; `note` is a short line such as the newest loss."""


def silent(done: int, total: int, note: str = "") -> None:
    """Tells nobody."""
