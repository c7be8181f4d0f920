"""Where the time goes: a shard of sampling and a step of training under torch's profiler, by operation.

    python -m benchmarks.hot_spots cpu        # two minutes

Not compiled: a compiled network has few operations, and their names say little.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from torch.profiler import ProfilerActivity, profile

from benchmarks.command import take_cores
from benchmarks.profiles import PROFILES, Profile
from benchmarks.sampling import one_shard
from benchmarks.tables import markdown
from benchmarks.training import Loops
from benchmarks.world import World

_LISTED: Final = 10


def hot_spots(work: Callable[[], object], *, device: str) -> list[tuple[str, float]]:
    """Operations and their own share of the device's time, the longest first; a first call warms up."""
    work()
    activities = [ProfilerActivity.CPU if device == "cpu" else ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler:
        work()
    spent = {
        event.key: event.self_cpu_time_total if device == "cpu" else event.self_device_time_total
        for event in profiler.key_averages()
    }
    total = sum(spent.values())
    return sorted(((name, seconds / total) for name, seconds in spent.items()), key=lambda pair: -pair[1])


def told(what: str, found: list[tuple[str, float]]) -> list[str]:
    rows = [[name, f"{share:.1%}"] for name, share in found[:_LISTED]]
    return markdown([what, "of the time"], [*rows, ["others", f"{sum(share for _, share in found[_LISTED:]):.1%}"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", choices=sorted(PROFILES))
    asked: Profile = replace(PROFILES[parser.parse_args().profile], compile=False, compile_training=False)
    take_cores(asked)
    dtype = asked.dtypes[-1]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        world = World.make(Path(folder), asked)
        step = Loops(world).ours(dtype, asked.pairs[-1])
        for what, work in (("a shard of sampling", one_shard(world).run), ("a step of training", step.run)):
            print("\n".join([*told(f"{what}, {dtype}", hot_spots(work, device=asked.device)), ""]), flush=True)


if __name__ == "__main__":
    main()
