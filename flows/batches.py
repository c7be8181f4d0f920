"""Shards in batches, one for each child flow run: which shards it carries, its name, the command that does the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from flows.joining import Call
from flows.work import shard_label
from spin.core.layout import StageFolder
from spin.core.plan import Plan
from spin.core.store import is_whole
from spin.evaluate.request import EvaluateRequest
from spin.evaluate.shards import is_finished, missing_parts, missing_shards

WHOLE_SET: Final = "numbers of the whole set"
_NAMED: Final = 4  # stretches of shards that a name lists, and commands that a failure does


@dataclass(frozen=True)
class SampleBatch:
    """Shards of one iteration; a call asks for those that are missing by then."""

    run: str
    number: int
    stage: StageFolder
    plan: Plan
    identity: dict[str, Any]
    shards: tuple[int, ...]

    def missing(self) -> list[str]:
        return [f"shard {shard}" for shard in self._left()]

    def call(self) -> Call:
        left = self._left() or list(self.shards)
        return Call(
            f"sample k={self.number} {span(left, self.plan.shards)}",
            {"iteration": self.number, "shards": left},
            tuple(f"sample-shard {self.run} {self.number} {shard}" for shard in left[:_NAMED]),
        )

    def _left(self) -> list[int]:
        """Those without a whole file."""
        return [shard for shard in self.shards if not is_whole(self.stage.samples(shard), identity=self.identity)]


@dataclass(frozen=True)
class ScoreBatch:
    """Shards of one model's evaluation; none of them: the numbers of the whole set."""

    run: str
    model: str
    label: str
    benchmark: str  # as another process finds it
    request: EvaluateRequest
    count: int  # of all shards
    shards: tuple[int, ...]

    def missing(self) -> list[str]:
        if self.shards or is_finished(self.request):
            return [f"shard {shard}" for shard in self._left()]
        return [WHOLE_SET]

    def busy(self) -> bool:
        """Whether somebody measures the whole set now, after the last of all shards."""
        return bool(self.shards) and not missing_shards(self.request) and not is_finished(self.request)

    def call(self) -> Call:
        left = self._left()
        return Call(
            f"evaluate {self.label} {span(left, self.count) if left else 'whole set'}",
            {"model": self.model, "shards": left, "benchmark": self.benchmark},
            (f"evaluate {self.run} --checkpoint {self.model} --benchmark {self.benchmark}",),
        )

    def _left(self) -> list[int]:
        return [shard for shard in self.shards if missing_parts(self.request, shard)]


Group = tuple[str, tuple[int, ...]]
_UNTOLD_SIZE: Final = 8  # of a group, where nobody knows how many workers there will be


def groups(shards: Sequence[int], size: int | None, workers: Callable[[], int] = lambda: 1) -> list[Group]:
    """Shards that one child carries, with the name of their group: the same name whatever is missing.

    Args:
        size: neighbours in a group; None for one group for each worker, which takes every n-th shard: so the first
            shards of a plan, which training reads first, are made first.
        workers: asked only then; where there is none yet, groups are small, for those to come. Where their number
            changes, a run that is called again may give out shards twice
            that its last call's children still make: whoever comes later finds them made.
    """
    count = workers() if size is None and shards else 0
    found: dict[str, list[int]] = {}
    for shard in shards:
        name = f"{shard % count} of {count}" if count else str(shard // (size or _UNTOLD_SIZE))
        found.setdefault(name, []).append(shard)
    return [(name, tuple(group)) for name, group in found.items()]


def span(shards: Sequence[int], total: int) -> str:
    """Names of shards, short: shard 07/32, shards 00-07/32, shards 00,02-03/32."""
    if len(shards) == 1:
        return shard_label(shards[0], total)
    ends = [index + 1 for index, (one, other) in enumerate(pairwise(shards)) if other != one + 1]
    stretches = [shards[start:end] for start, end in pairwise([0, *ends, len(shards)])]
    if len(stretches) > _NAMED:
        return f"shards {shards[0]:02d}-{shards[-1]:02d}/{total:02d}, {len(shards)} of them"
    named = (f"{part[0]:02d}" if len(part) == 1 else f"{part[0]:02d}-{part[-1]:02d}" for part in stretches)
    return f"shards {','.join(named)}/{total:02d}"
