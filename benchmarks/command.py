"""`python -m benchmarks.NAME cpu`: one benchmark of a profile, its table last, its JSON where the page reads it."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from benchmarks.measuring import Measured, write_measured
from benchmarks.paper import PROFILE_NAMES, sampling_ladder
from benchmarks.profiles import PROFILES, Profile
from benchmarks.tables import table

MEASURED: Final = Path(__file__).parent / "measured"


def measure(benchmark: Callable[[Profile, Path], Measured], told: str | None) -> None:
    """Run a benchmark as a program; its second argument is a folder for models and data."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", choices=sorted(PROFILES))
    parser.add_argument("--rounds", type=int, help="default: the profile's")
    parser.add_argument("--folder", type=Path, help="for models and data, kept; default: a temporary one")
    parser.add_argument("--keep", type=Path, default=MEASURED, help="where PROFILE/NAME.json is written")
    asked = parser.parse_args()
    profile: Profile = PROFILES[asked.profile]
    if asked.rounds:
        profile = replace(profile, rounds=asked.rounds)
    take_cores(profile)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(temporary) / "inductor")  # every compile is a cold one
        found = benchmark(profile, asked.folder or Path(temporary))
    found = replace(found, command=f"python -m benchmarks.{found.benchmark} {profile.name}")
    write_measured(asked.keep / profile.name / f"{found.benchmark}.json", found)
    print("\n".join(table(found)))
    if found.benchmark == "sampling" and profile.name in PROFILE_NAMES:
        print("\n".join(["", *sampling_ladder({profile.name: {found.benchmark: found}})]))


def take_cores(profile: Profile) -> None:
    """Ours and the baselines alike take every core; a GPU's host works with one thread."""
    torch.set_num_threads(os.cpu_count() or 1 if profile.device == "cpu" else 1)
