"""All benchmarks of a profile, one process after another; the page is built from what they leave.

python -m benchmarks cpu        # about two hours on two idle cores; --only sampling for one
python -m benchmarks gpu
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.command import MEASURED
from benchmarks.measuring import read_measured
from benchmarks.tables import short_table
from benchmarks.targets import goals

ORDER: Final = ("ceilings", "artifacts", "sampling", "training", "scoring", "orchestration", "scaling")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", choices=("cpu", "gpu", "trial"))
    parser.add_argument("--only", action="append", choices=ORDER, help="may be said several times")
    parser.add_argument("--keep", type=Path, default=MEASURED)
    asked = parser.parse_args()
    names = [name for name in ORDER if name in (asked.only or ORDER)]
    failed = [name for name in names if not _run(name, asked.profile, asked.keep)]
    files = [asked.keep / asked.profile / f"{name}.json" for name in names if name not in failed]
    found = [read_measured(file) for file in files]
    print("\n".join([*short_table(found), "", *goals(asked.profile, {each.benchmark: each for each in found})]))
    for measured in found:
        if not measured.counts:
            failed.append(measured.benchmark)
    for name in failed:
        print(
            f"{name} failed, or gave other outputs than its baseline: python -m benchmarks.{name} {asked.profile}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _run(name: str, profile: str, keep: Path) -> bool:
    command = [sys.executable, "-m", f"benchmarks.{name}", profile, "--keep", str(keep)]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
