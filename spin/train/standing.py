"""Which of the shards that a training waits for stand by now; no torch, so that a flow can wait without a device."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Final

from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder
from spin.core.plan import Plan
from spin.core.planning import read_plan
from spin.core.store import read_manifest
from spin.train.request import Awaited, TrainRequest

_LOOK_SECONDS: Final = 0.5


@dataclass
class Standing:
    """The shards of a stage, of which the first `found` are known to stand."""

    stage: StageFolder
    plan: Plan
    awaited: Awaited
    tell: Callable[[str], None]  # hears what is waited for, once for each shard
    found: int = 0
    seconds: float = 0.0  # waited
    ended: Event = field(default_factory=Event)  # nobody waits any more

    @classmethod
    def of(cls, request: TrainRequest, tell: Callable[[str], None]) -> Standing | None:
        """Of a training that need not find all of its samples; None for another."""
        if request.awaited is None:
            return None
        stage = StageFolder(request.stage)
        identity = json.loads(json.dumps(request.awaited.identity))  # as manifests have it: tuples are lists there
        return cls(stage, read_plan(stage), replace(request.awaited, identity=identity), tell)

    @property
    def complete(self) -> bool:
        """Whether every shard stands; one that was found is not looked for again."""
        found = self.found  # stored once: two threads look
        while found < self.plan.shards and self._stands(found):
            found += 1
        self.found = found
        return found == self.plan.shards

    def wait_for_all(self) -> None:
        """Return when every shard stands."""
        for shard in range(self.plan.shards):
            self.wait_for(shard)

    def wait_for(self, shard: int) -> None:
        """Return when a shard stands.

        Raises:
            ArtifactError: where it does not come within the limit; a later try may find it.
        """
        if self._stands(shard):
            return
        self.tell(f"waiting for shard {shard} of {self.plan.shards}")
        start, limit = time.monotonic(), self.awaited.limit_seconds
        while not self._stands(shard):
            if time.monotonic() - start > limit:
                raise ArtifactError(
                    f"shard {shard} of {self.plan.shards} did not come within {limit / 60:.3g} min",
                    where=str(self.stage.path),
                    fix=f"see why sampling stopped, or spin-diffusion {sampling_again(self.stage, shard)}; run again",
                )
            if self.rest():
                raise ArtifactError(f"shard {shard} is waited for no more", where=str(self.stage.path), fix="run again")
        self.seconds += time.monotonic() - start

    def rest(self) -> bool:
        """Between two looks; whether the waiting is over."""
        return self.ended.wait(_LOOK_SECONDS)

    def give_up(self) -> None:
        """End the waiting of another thread: what it waits for is of no use any more."""
        self.ended.set()

    def _stands(self, shard: int) -> bool:
        """Made from what this training is to be trained on; whether its bytes are whole, its reader checks."""
        manifest = read_manifest(self.stage.samples(shard))
        return manifest is not None and manifest.identity == self.awaited.identity


def sampling_again(stage: StageFolder, shard: int) -> str:
    """The command that makes a shard again."""
    return f"sample-shard {stage.path.parent.name} {stage.number} {shard}"
