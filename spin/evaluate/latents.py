"""Latents of held-out images out of the real cache, which holds those of all training rows too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from spin.core.store import verify
from spin.diffusion.latents import find_real


@dataclass(frozen=True)
class HeldOutLatents:
    """Finds latents by sample id; those of held-out images are all of the model's own size."""

    path: Path
    scaling: float
    shift: float

    @classmethod
    def open(cls, path: Path, *, scaling: float, shift: float) -> HeldOutLatents:
        verify(path)
        return cls(path, scaling, shift)

    def of(self, sample_ids: Sequence[str]) -> Tensor:
        """Posterior means in the model's scaled space, (N, C, h, w)."""
        found = find_real(self.path, sample_ids, scaling=self.scaling, shift=self.shift)
        return found.pick(range(len(sample_ids)), None)
