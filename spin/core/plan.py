"""Which images an iteration needs, in which order, from which seeds, in which shards.

Only rows that training will read are sampled (the paper sampled 0.92 M and read as few as 0.10 M). Rows
stand in the order of their first use, so the plan of n steps is a prefix of the plan of more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_SEED_MASK: Final = (1 << 63) - 1


@dataclass(frozen=True)
class Visit:
    """One reading of one row by training: the row's index, its how-many-th reading, and which drawn image."""

    row: int
    visit: int
    draw: int


@dataclass(frozen=True)
class PlanRow:
    position: int
    row: int
    draw: int
    shard: int


@dataclass(frozen=True)
class Plan:
    """Header of an iteration's plan; its rows are a Parquet file whose digest is `rows_digest`."""

    stage: str
    images: int
    shards: int
    shard_size: int
    batch_size: int
    config_hash: str
    code_version: str
    parent_digest: str
    rows_digest: str

    @property
    def plan_hash(self) -> str:
        return identity_hash(
            self.stage, self.images, self.shards, self.shard_size, self.batch_size, self.config_hash, self.code_version,
            self.parent_digest, self.rows_digest,
        )[:32]  # fmt: skip

    def shard_range(self, shard: int) -> range:
        """Positions of one shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.images))

    def shards_read(self, reads: int) -> int:
        """How many shards, from the first, the first `reads` readings of training need.

        Rows stand in the order of their first use: reading n is of image n, or of one that was read before.
        """
        return shard_count(min(reads, self.images), self.shard_size)


def identity_hash(*parts: object) -> str:
    """sha256 over the parts' text; the same parts give the same hash on any machine."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()


def hash_of(parts: Iterable[object]) -> str:
    """`identity_hash` of any number of parts, of which one is in memory."""
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        digest.update((f"\x1f{part}" if number else str(part)).encode())
    return digest.hexdigest()


def seed_of(*parts: object) -> int:
    """A 63-bit seed as a function of identity, never of order, rank or clock."""
    return int(identity_hash(*parts)[:16], 16) & _SEED_MASK


def prompt_hash(caption: str) -> str:
    """Identity of a caption, 32 hex digits."""
    return identity_hash("prompt", caption)[:32]


def image_seed(run_seed: int, iteration: str, sample_id: str, draw: int) -> int:
    """Seed of one generated image: the same in any split into shards."""
    return seed_of("image", run_seed, iteration, sample_id, draw)


def visits(*, rows: int, count: int, draws: int, run_seed: int, stage: str) -> Iterator[Visit]:
    """The first `count` readings: every epoch passes all rows once, in an order of its own."""
    for position in range(count):
        epoch, offset = divmod(position, rows)
        if offset == 0:
            order = epoch_order(rows, run_seed=run_seed, stage=stage, epoch=epoch)
        yield Visit(row=int(order[offset]), visit=epoch, draw=epoch % draws)


def epoch_order(rows: int, *, run_seed: int, stage: str, epoch: int) -> npt.NDArray[np.int64]:
    """Order of the rows in one epoch, (rows,)."""
    rng = np.random.Generator(np.random.Philox(seed_of("order", run_seed, stage, epoch)))
    return rng.permutation(rows).astype(np.int64, copy=False)


def plan_rows(*, rows: int, reads: int, draws: int, shard_size: int, run_seed: int, stage: str) -> Iterator[PlanRow]:
    """The images to sample: each (row, draw) that training reads, once, in the order of first use."""
    needed = min(reads, rows * draws)  # after `draws` epochs every image has been read once
    for position, visit in enumerate(visits(rows=rows, count=needed, draws=draws, run_seed=run_seed, stage=stage)):
        yield PlanRow(position, visit.row, visit.draw, position // shard_size)


def shard_count(images: int, shard_size: int) -> int:
    return -(-images // shard_size)


def padded_batches(positions: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Split positions into batches of one fixed shape; the last is filled up by repeating its last row."""
    for start in range(0, len(positions), batch_size):
        batch = list(positions[start : start + batch_size])
        yield batch + [batch[-1]] * (batch_size - len(batch))
