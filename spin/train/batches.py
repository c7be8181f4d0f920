"""One global batch, stated once, solved into micro-batch x accumulation x processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from spin.core.buckets import by_size
from spin.core.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True)
class BatchShape:
    """How one optimizer step reads its batch: `processes` shares, each in passes of items of one size."""

    processes: int
    share: int  # pairs (spin) or images (sft) of one process in one optimizer step
    micro_batch_size: int  # of them in one pass; the last pass of a share may hold fewer

    def arranged(self, batch: Sequence[Item], size: Callable[[Item], Any]) -> list[Item]:
        """The batch with items of one size together in each share; what a share holds stays what it was."""
        return [
            item for rank in range(self.processes) for group in by_size(self._of(rank, batch), size) for item in group
        ]

    def passes(self, batch: Sequence[Item], size: Callable[[Item], Any], *, rank: int) -> Iterator[Sequence[Item]]:
        """What process `rank` reads of an arranged batch, one micro-batch of one size after the other.

        Shares are neighbours: those of all ranks, one behind the other, are the batch in its order.
        """
        for group in by_size(self._of(rank, batch), size):
            for start in range(0, len(group), self.micro_batch_size):
                yield group[start : start + self.micro_batch_size]

    def _of(self, rank: int, batch: Sequence[Item]) -> Sequence[Item]:
        return batch[rank * self.share : (rank + 1) * self.share]


def solve_batch(batch_size: int, *, micro_batch_size: int, processes: int, setting: str) -> BatchShape:
    """Split a global batch evenly over processes; a pass never holds more than a process's share.

    Args:
        batch_size: pairs or images of one optimizer step, over all processes; the losses are a function of it
            alone, whatever the number of processes: 32 over 2 processes in passes of 8 is 8 x 2 x 2.
        micro_batch_size: the most that one process reads in one pass.
        processes: the world size.
        setting: name of the setting that states the batch, for the error.
    """
    if batch_size % processes:
        below = batch_size - batch_size % processes
        batches = " or ".join(str(size) for size in (below, below + processes) if size)
        fewer = max(count for count in range(1, processes) if batch_size % count == 0)
        raise ConfigError(
            f"a batch of {batch_size} cannot be shared evenly by {processes} processes",
            where=setting,
            fix=f"set it to {batches}, or execution.train_processes to {fewer}",
        )
    share = batch_size // processes
    return BatchShape(processes, share, min(micro_batch_size, share))
