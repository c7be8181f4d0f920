"""What orchestration costs: per shard, of a whole run, of a resume.

    python -m benchmarks.orchestration cpu        # about ten minutes on two cores, 7 GB of disk

A resume looks at a finished iteration at the size of Stable Diffusion 1.5: plan, shards, training; with stamps of what
was hashed before, and without. The demo is the miniature's whole run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.command import measure
from benchmarks.measuring import Check, Measured, Way, interleave, machine, seconds_in
from benchmarks.profiles import Profile

_LOCAL_SHARDS: Final = 40
_STAMPED_AFTER: Final = 3.0  # seconds: what was just written gets no stamp


def orchestration(profile: Profile, folder: Path) -> Measured:
    own_prefect(folder)
    rounds = interleave([_empty_shards(), *_resumes(profile, folder, missing := [])], rounds=profile.rounds)
    demo = _demo(folder)
    checks = [Check("shards that a resume makes again, and trainings", float(sum(missing)), 0.0)]
    facts = {"shards of a resume": profile.standing, "shard": "16 MiB", "checkpoint": "3.4 GB", **demo}
    return Measured(
        "orchestration", profile.name, "", "shard", checks=checks, facts=facts, machine=machine("cpu"),
        **rounds._asdict(),
    )  # fmt: skip


def own_prefect(folder: Path) -> None:
    """A Prefect of its own, whose settings are read when it is imported."""
    from flows.environment import prepare_environment

    os.environ.pop("PREFECT_API_URL", None)
    prepare_environment(folder)


def _empty_shards() -> Way:
    """A flow of tasks that do nothing: Prefect's share of each shard with the executor `local`."""
    from prefect import flow, task

    @task(task_run_name="empty shard {shard}")
    def empty_shard(folder: str, shard: int) -> None:
        (Path(folder) / f"shard-{shard:05d}").touch()

    @flow(name="empty-shards", persist_result=False)
    def empty_shards() -> None:
        with tempfile.TemporaryDirectory() as place:
            for shard in range(_LOCAL_SHARDS):
                empty_shard(place, shard)

    return Way("executor local, a task that does nothing", empty_shards, _LOCAL_SHARDS)


def _resumes(profile: Profile, folder: Path, missing: list[int]) -> list[Way]:
    """The same look at the same files; `missing` hears how many shards and trainings did not stand."""
    from benchmarks.standing_shards import CHECKPOINT_BYTES, SHARD_SIZE, standing_iteration

    small = profile.name == "trial"
    made = standing_iteration(
        folder / "resume", profile.standing, shard_size=8 if small else SHARD_SIZE,
        checkpoint_bytes=2**20 if small else CHECKPOINT_BYTES,
    )  # fmt: skip
    time.sleep(_STAMPED_AFTER)

    def look(before: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            before()
            again, trained = made.resume()
            missing.append(again + (not trained))

        return run

    return [
        Way("resume, every byte hashed", look(made.forget), profile.standing),
        Way("resume", look(lambda: None), profile.standing),
    ]


def _demo(folder: Path) -> dict[str, Any]:
    """The miniature's demo: the share of its time in which no room was asked; what a room imports is inside."""
    from flows.spin_diffusion import spin_diffusion
    from spin.core.config import load_config
    from spin.core.config_identity import config_to_json
    from tasks.rooms import InlineRoom

    config = config_to_json(load_config("miniature", overrides=[f"run.root={folder / 'demo'}"]))
    with seconds_in(InlineRoom, "ask") as inside:
        total = spin_diffusion(config=config).totals.seconds
    return {"demo, seconds": round(total, 1), "demo, share outside rooms": round(1 - sum(inside) / total, 3)}


if __name__ == "__main__":
    measure(orchestration, __doc__)
