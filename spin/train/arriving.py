"""Training on images that are still being drawn: each step waits for the shards that it reads, and for no others.

A plan's rows stand in the order of their first use (`Plan.shards_read`), so the first steps need the first shards.
What a step reads is the same as if all of them had stood, so the weights are too, bit for bit.

No state is kept before the last shard stands: what the weights are made from names them all. A stage that was stopped
by then begins anew, and one that has states waits for all, as does one for which the opponent's errors are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from spin.core.layout import StageFolder
from spin.core.plan import Visit
from spin.train.pairs import Pairs, verified_shard
from spin.train.processes import Processes
from spin.train.request import TrainRequest
from spin.train.standing import Standing


@dataclass
class Arriving:
    """The shards that a training opens as they come, in the order of the plan."""

    standing: Standing
    opened: int = 0
    steps: int = 0  # whose pairs had been read when the last shard was still missing

    @property
    def complete(self) -> bool:
        """Whether every shard stands, open or not."""
        return self.standing.complete

    def in_time(self, visits: Iterator[Visit], batch_size: int, pairs: Pairs) -> Iterator[Visit]:
        """The readings, those of each step when the shards that they need are open in `pairs`."""
        for step in count():
            batch = list(islice(visits, batch_size))
            if not batch:
                return
            if not self.complete:
                self.steps = step
            self.open_first(self.standing.plan.shards_read(step * batch_size + len(batch)), pairs)
            yield from batch

    def open_all(self, pairs: Pairs) -> None:
        """Also those that no step reads: what the weights are made from names them."""
        self.open_first(self.standing.plan.shards, pairs)

    def open_first(self, shards: int, pairs: Pairs) -> None:
        """Wait until the first of them stand, each verified before it is opened."""
        assert pairs.opening is not None
        while self.opened < shards:
            self.standing.wait_for(self.opened)
            shard = verified_shard(self.standing.stage, self.standing.plan, self.opened)
            pairs.add([shard], pairs.opening)
            self.opened += 1


def arriving(request: TrainRequest, processes: Processes, tell: Callable[[str], None]) -> Arriving | None:
    """The shards that a training opens as they come; None where all stand, as they do for one that has states."""
    standing, states = Standing.of(request, tell), StageFolder(request.stage).states
    if standing is None:
        return None
    if request.errors is not None or (states.is_dir() and any(states.iterdir())):
        standing.wait_for_all()
    if not processes.once(lambda: standing.complete):
        return Arriving(standing)
    standing.wait_for_all()  # what one machine sees, another may see later
    return None
