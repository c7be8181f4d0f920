"""What a row of the target data is: its identity, its split, and the data's own digest.

None of it depends on the order of files on disk, on a run or on a machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from spin.core.plan import identity_hash, prompt_hash
from spin.miniature.world import Split

Pixels = npt.NDArray[np.uint8]
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

    @property
    def prompt_hash(self) -> str:
        return prompt_hash(self.caption)

    def as_prompt(self) -> dict[str, Any]:
        """The row of prompts.parquet."""
        return {
            "sample_id": self.sample_id,
            "caption": self.caption,
            "prompt_hash": self.prompt_hash,
            "split": self.split,
            "origin": self.origin,
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

    `pictures(size, splits)` gives (row number, (size, size, 3) uint8) in the order that is cheap to read;
    `losers` does the same for the dispreferred pictures, and is None where the data was asked for none.
    `left_out` good train rows are not among `rows`: fewer were asked for.
    """

    rows: Sequence[Row]
    rejections: Sequence[Rejection]
    pictures: Pictures
    losers: Pictures | None = None
    left_out: int = 0

    @property
    def usable(self) -> int:
        """Good rows of the source, asked for or not."""
        return len(self.rows) + self.left_out

    def digest(self, size: int) -> str:
        """Digest of the rows, their splits and the pictures' size; 64 hex digits."""
        members = sorted(f"{row.sample_id} {row.split}" for row in self.rows)
        return identity_hash("data", PREPARATION, size, *members)

    def losers_digest(self) -> str:
        """Digest of the train rows' losers, apart from the data's own: who trains without losers shares the cache."""
        members = sorted(f"{row.sample_id} {row.loser}" for row in self.rows if row.split == "train")
        return identity_hash("losers", *members)


def sample_id(image: bytes, caption: str) -> str:
    """Identity of a row, 32 hex digits: a hash of the picture's original bytes and the caption."""
    return identity_hash("sample", hashlib.sha256(image).hexdigest(), caption)[:32]


def split_rows(ids: Sequence[str], *, held_out_share: float) -> dict[str, Split]:
    """Split of each row by a hash of its identity: half of the share is validation, half is test.

    Adding rows moves none of the others, save in tiny data, where each split still gets one row.
    """
    order = sorted(ids, key=_position)
    held_out = sum(_position(name) < held_out_share for name in order)
    validation = sum(_position(name) < held_out_share / 2 for name in order)
    validation = min(max(validation, 1), len(order) - 2)
    held_out = min(max(held_out, validation + 1), len(order) - 1)
    splits: dict[str, Split] = dict.fromkeys(order, "train")
    splits.update(dict.fromkeys(order[:held_out], "test"))
    splits.update(dict.fromkeys(order[: max(validation, 0)], "validation"))
    return splits


def _position(name: str) -> float:
    """Where a row stands in [0, 1)."""
    return int(identity_hash("split", name)[:13], 16) / 16**13
