"""Real pictures under the eyes of a safety checker, a few at once, as they are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from spin.core.buckets import by_size
from spin.core.safety import Pixels, Safety

if TYPE_CHECKING:
    from spin.diffusion.safety import Checker

UNSAFE_PICTURE: Final = "unsafe picture"
_PICTURES: Final = 16  # that wait; diffusers' checker takes 1.1 s each of 4 on two cores, of 1 by itself 1.5 s
_PIXELS: Final = 1 << 22  # of them, 12 MiB; a larger picture waits for nobody


@dataclass(frozen=True)
class Look:
    """A checker at the door of the data, and whether what it marks is left out."""

    checker: Checker
    drop: bool

    def marks(self, pictures: Sequence[Image.Image]) -> list[bool]:
        """Whether each is unsafe; those of one size are looked at together."""
        said = [False] * len(pictures)
        for places in by_size(range(len(pictures)), lambda place: pictures[place].size):
            marks = self.checker.unsafe(_stacked([pictures[place] for place in places]))
            for place, mark in zip(places, marks, strict=True):
                said[place] = mark
        return said


@dataclass(frozen=True)
class _Waiting:
    identity: str
    pictures: Sequence[Image.Image]
    enter: Callable[[bool | None], None]


class Queue:
    """Good rows that wait to be looked at; each is entered when it is known, in the order in which they came."""

    def __init__(self, look: Look | None) -> None:
        self._look = look
        self._rows: list[_Waiting] = []

    def put(self, identity: str, pictures: Sequence[Image.Image], enter: Callable[[bool | None], None]) -> None:
        """Let a row wait, the winner's picture and its loser's; where nobody looks, `enter` is called at once."""
        if self._look is None:
            return enter(None)
        self._rows.append(_Waiting(identity, pictures, enter))
        waiting = [picture for row in self._rows for picture in row.pictures]
        if len(waiting) >= _PICTURES or sum(picture.width * picture.height for picture in waiting) >= _PIXELS:
            self.finish()
        return None

    def settle(self, identity: str) -> None:
        """Let no row of this identity wait: whether another one repeats it depends on what is said of it."""
        if any(row.identity == identity for row in self._rows):
            self.finish()

    def finish(self) -> None:
        """Look at all that wait."""
        rows, self._rows = self._rows, []
        if self._look is None or not rows:
            return
        marks = iter(self._look.marks([picture for row in rows for picture in row.pictures]))
        for row in rows:
            row.enter(any(list(islice(marks, len(row.pictures)))))


def look_of(safety: Safety | None, *, device: str) -> Look | None:
    """None where nobody looks: torch is not imported then."""
    if safety is None:
        return None
    from spin.diffusion.safety import resident_checker

    return Look(resident_checker(safety, device), safety.drop)


def _stacked(pictures: Sequence[Image.Image]) -> Pixels:
    """(B, H, W, 3); of a single one no second copy, which may be of 89 million pixels."""
    pixels = [np.asarray(picture) for picture in pictures]
    return np.stack(pixels) if pixels[1:] else pixels[0][None]
