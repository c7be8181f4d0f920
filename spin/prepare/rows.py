"""What a row of the target data is: its identity, its split, and the data's own digest.

None of it depends on the order of files on disk, on a run or on a machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from spin.core.buckets import Buckets, Size
from spin.core.plan import hash_of, identity_hash, prompt_hash
from spin.core.schema import UNSAFE
from spin.miniature.world import Split

Pixels = npt.NDArray[np.uint8]
Crop = Literal["center", "random"]
Pictures = Callable[[int, Set[Split]], Iterator[tuple[int, Pixels]]]

PREPARATION: Final = 1  # raised when pictures come out otherwise (crop, filter, background): caches are then made anew


@dataclass(frozen=True)
class Row:
    """A good row, without its pixels."""

    sample_id: str
    caption: str
    split: Split
    origin: str  # file and row, relative to the data's path
    loser: str = ""  # sha256 of the dispreferred picture's bytes; empty where the data was asked for none
    unsafe: bool | None = None  # what a safety checker said of the picture, or of its loser; None: none looked
    height: int = 0  # of the bucket in pixels; 0: the model's own square, as of every held-out picture
    width: int = 0

    @property
    def prompt_hash(self) -> str:
        return prompt_hash(self.caption)

    def size(self, side: int) -> Size:
        """Of its picture as the model sees it, whose own square has this side."""
        return Size(self.height or side, self.width or side)

    def as_prompt(self, side: int) -> dict[str, Any]:
        """The row of prompts.parquet, and more than some runs write."""
        return {
            "sample_id": self.sample_id,
            "caption": self.caption,
            "prompt_hash": self.prompt_hash,
            "split": self.split,
            "origin": self.origin,
            **self.size(side)._asdict(),
            UNSAFE: None if self.unsafe is None else bool(self.unsafe),
        }


@dataclass(frozen=True)
class Rejection:
    """A row that cannot be used."""

    origin: str
    reason: str
    detail: str


@dataclass(frozen=True)
class TargetData:
    """The rows of prompts.parquet, in its order, and a way to their pictures.

    `pictures(side, splits)` gives (row number, (h, w, 3) uint8) in the order that is cheap to read, of each row's size;
    `losers` does the same for the dispreferred pictures, and is None where the data was asked for none.
    `left_out` good train rows are not among `rows`: fewer were asked for. `dropped` counts rows that a rule of the
    source leaves out, by rule; they are not bad.
    """

    rows: Sequence[Row]
    rejections: Sequence[Rejection]
    pictures: Pictures
    losers: Pictures | None = None
    left_out: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    crop: Crop = "center"
    buckets: Buckets | None = None  # of the train pictures; None: all are squares

    @property
    def usable(self) -> int:
        """Good rows of the source, asked for or not."""
        return len(self.rows) + self.left_out

    def digest(self, size: int) -> str:
        """Digest of the rows, their splits, the pictures' size and how they are fitted; 64 hex digits."""
        members = (f"{row.sample_id} {row.split}" for row in self._by_identity())
        crop = () if self.crop == "center" else ("crop", self.crop)
        buckets = () if self.buckets is None else self.buckets.identity
        return hash_of(chain(("data", PREPARATION, size, *crop, *buckets), members))

    def losers_digest(self) -> str:
        """Digest of the train rows' losers, apart from the data's own: who trains without losers shares the cache."""
        members = (f"{row.sample_id} {row.loser}" for row in self._by_identity() if row.split == "train")
        return hash_of(chain(("losers",), members))

    def _by_identity(self) -> Iterable[Row]:
        """Own rows stand so already, however many they are; the miniature's few are sorted."""
        ordered = all(one.sample_id < other.sample_id for one, other in pairwise(self.rows))
        return self.rows if ordered else sorted(self.rows, key=lambda row: row.sample_id)


def sample_id(image: bytes, caption: str) -> str:
    """Identity of a row, 32 hex digits: a hash of the picture's original bytes and the caption."""
    return identity_hash("sample", hashlib.sha256(image).hexdigest(), caption)[:32]


def split_position(group: str) -> float:
    """Where the rows of a group stand in [0, 1): those below the held-out share are held out.

    A hash, so adding rows moves none of the others, save in tiny data.
    """
    return int(identity_hash("split", group)[:13], 16) / 16**13


def held_out_cuts(validation: int, held_out: int, *, total: int) -> tuple[int, int]:
    """How many of the first rows by position are validation rows, and how many are held out at all.

    Args:
        validation, held_out: rows below half of the held-out share, and below all of it.
        total: all rows. In tiny data each split still gets one of them.
    """
    validation = min(max(validation, 1), total - 2)
    return validation, min(max(held_out, validation + 1), total - 1)
