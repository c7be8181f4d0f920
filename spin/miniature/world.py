"""The embedded world: its words, its captions and how they are split.

A picture shows one shape: "a large red star on a navy background". Four attributes (size, colour,
shape, background) make 2 x 8 x 6 x 8 = 768 captions. Nothing here draws; see renderer.py.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass
from typing import Final, Literal

Split = Literal["train", "validation", "test"]

IMAGE_SIZE: Final = 32  # pixels, both sides

SIZES: Final[dict[str, float]] = {"small": 0.20, "large": 0.34}  # radius / image side
COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (225, 30, 40),
    "orange": (245, 135, 20),
    "yellow": (250, 225, 40),
    "green": (35, 165, 60),
    "cyan": (30, 205, 215),
    "blue": (40, 80, 235),
    "purple": (140, 45, 185),
    "pink": (250, 125, 185),
}
SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "ring")
BACKGROUNDS: Final[dict[str, tuple[int, int, int]]] = {
    "white": (250, 250, 250),
    "gray": (128, 128, 128),
    "black": (15, 15, 18),
    "navy": (20, 25, 85),
    "sand": (222, 200, 160),
    "mint": (185, 235, 205),
    "lavender": (205, 195, 240),
    "brown": (105, 65, 35),
}
ATTRIBUTE_NAMES: Final = ("size", "colour", "shape", "background")

_CAPTION = re.compile(r"^a (?P<size>\w+) (?P<colour>\w+) (?P<shape>\w+) on a (?P<background>\w+) background$")
_SPLIT_COUNTS: Final[dict[Split, int]] = {"train": 384, "validation": 128, "test": 256}


@dataclass(frozen=True, order=True)
class Attributes:
    """What one picture shows; `caption` says it and `parse_caption` reads it back."""

    size: str
    colour: str
    shape: str
    background: str

    @property
    def caption(self) -> str:
        return f"a {self.size} {self.colour} {self.shape} on a {self.background} background"

    @property
    def indices(self) -> tuple[int, int, int, int]:
        """Position of each attribute in SIZES, COLOURS, SHAPES and BACKGROUNDS."""
        return (
            list(SIZES).index(self.size),
            list(COLOURS).index(self.colour),
            SHAPES.index(self.shape),
            list(BACKGROUNDS).index(self.background),
        )


def parse_caption(caption: str) -> Attributes | None:
    """Read a caption of this world; None where the sentence is not one of the 768."""
    match = _CAPTION.match(caption)
    if match is None:
        return None
    found = Attributes(**match.groupdict())
    known = found.size in SIZES and found.colour in COLOURS and found.shape in SHAPES
    return found if known and found.background in BACKGROUNDS else None


def all_attributes() -> list[Attributes]:
    """All 768 combinations, in the order of the word tables."""
    return [Attributes(*parts) for parts in itertools.product(SIZES, COLOURS, SHAPES, BACKGROUNDS)]


def split_attributes(split: Split) -> list[Attributes]:
    """The combinations of one split: 384 train, 128 validation, 256 test, disjoint, fixed for ever."""
    start = 0
    for name, count in _SPLIT_COUNTS.items():
        if name == split:
            return _shuffled()[start : start + count]
        start += count
    raise ValueError(f"unknown split {split!r}; one of {', '.join(_SPLIT_COUNTS)}")


def pretraining_attributes() -> list[Attributes]:
    """What the base model saw in pretraining: all but every fourth caption of validation and test.

    The 96 captions left out (32 validation, 64 test) measure composition: words seen, sentence unseen.
    """
    unseen = set(split_attributes("validation")[::4]) | set(split_attributes("test")[::4])
    return [attributes for attributes in all_attributes() if attributes not in unseen]


def _shuffled() -> list[Attributes]:
    return sorted(all_attributes(), key=lambda a: hashlib.sha256(a.caption.encode()).digest())
