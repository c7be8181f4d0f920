"""One global batch, stated once, solved into processes x passes x micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar

from spin.core.buckets import by_size
from spin.core.errors import ConfigError
from spin.train.request import TrainRequest

Item = TypeVar("Item")


@dataclass(frozen=True)
class Passes(Generic[Item]):
    """What each process reads of one batch, pass by pass."""

    by_process: Sequence[Sequence[Sequence[Item]]]

    @property
    def batch(self) -> list[Item]:
        """All that is read, in the order in which the processes' shares are joined."""
        return list(chain.from_iterable(chain.from_iterable(self.by_process)))

    def surplus(self, process: int) -> int:
        """How many passes fewer than the busiest process this one makes."""
        return max(map(len, self.by_process)) - len(self.by_process[process])

    def place_of(self, index: int) -> tuple[int, int]:
        """Process and pass, both from 0, that read an item of `batch`."""
        for process, passes in enumerate(self.by_process):
            for number, micro in enumerate(passes):
                if index < len(micro):
                    return process, number
                index -= len(micro)
        raise IndexError(index)


@dataclass(frozen=True)
class BatchShape:
    """How one optimizer step reads its batch: `processes` shares, each in passes of items of one size."""

    processes: int
    share: int  # pairs (spin) or images (sft) of one process in one optimizer step
    micro_batch_size: int  # the most of them in one pass; the last pass of a size may hold fewer

    def passes(self, batch: Iterable[Item], size: Callable[[Item], Any]) -> Passes[Item]:
        """Split a global batch: shares are neighbours, and within one items of each size stand together."""
        items = list(batch)
        shares = (items[start : start + self.share] for start in range(0, len(items), self.share))
        return Passes([self._passes_of(share, size) for share in shares])

    def _passes_of(self, share: Sequence[Item], size: Callable[[Item], Any]) -> list[Sequence[Item]]:
        step = self.micro_batch_size
        groups = by_size(share, size)
        return [group[start : start + step] for group in groups for start in range(0, len(group), step)]


def batch_shape(request: TrainRequest) -> BatchShape:
    """How the processes of a request share each optimizer step's batch."""
    settings = request.settings
    return solve_batch(
        settings.batch_size, micro_batch_size=settings.micro_batch_size, processes=request.processes,
        setting="sft.batch_size" if settings.objective == "sft" else "train.batch_size",
    )  # fmt: skip


def solve_batch(batch_size: int, *, micro_batch_size: int, processes: int, setting: str) -> BatchShape:
    """Split a global batch evenly over processes; a pass never holds more than a process's share.

    Args:
        batch_size: pairs or images of one optimizer step, over all processes; the losses are a function of it
            alone, whatever the number of processes: 32 over 2 processes in passes of 8 is 8 x 2 x 2, where all are
            of one size.
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
