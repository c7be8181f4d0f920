"""What the machine reaches at most: matrix products and copies on random data.

python -m benchmarks.ceilings cpu
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.command import measure
from benchmarks.measuring import Measured, Way, interleave, machine, matmul
from benchmarks.profiles import Profile

_BYTES = 4  # of a float32


def ceilings(profile: Profile, _folder: Path) -> Measured:
    """Products in each precision, in TFLOP; a copy in GB, read and written."""
    source = torch.randn(profile.copied // _BYTES, device=profile.device)
    target = torch.empty_like(source)
    copy = Way("copy, GB", lambda: target.copy_(source), units=2e-9 * profile.copied)
    products = [matmul(profile.device, dtype, side=profile.side) for dtype in (torch.float32, torch.bfloat16)]
    rounds = interleave([*products, copy], rounds=2 * profile.rounds, device=profile.device)
    return Measured(
        "ceilings", profile.name, "", "TFLOP", facts={"side": profile.side, "copied": profile.copied},
        machine=machine(profile.device), **rounds._asdict(),
    )  # fmt: skip


if __name__ == "__main__":
    measure(ceilings, __doc__)
