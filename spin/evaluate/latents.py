"""Latents of held-out images out of the real cache, which holds those of all training rows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from spin.core.errors import ArtifactError
from spin.core.layout import RealCache
from spin.core.schema import read_table
from spin.diffusion.latents import Latents, read_real


@dataclass(frozen=True)
class HeldOutLatents:
    """Finds latents by sample id; those of held-out images are all of the model's own size."""

    path: Path
    latents: Latents
    rows: Mapping[str, int]  # of `latents`, by sample id

    @classmethod
    def open(cls, cache: RealCache, *, scaling: float, shift: float) -> HeldOutLatents:
        ids = read_table(cache.held_out_images, ["sample_id"])["sample_id"].to_pylist()
        latents = read_real(cache.latents, ids, scaling=scaling, shift=shift)
        return cls(cache.latents, latents, {name: row for row, name in enumerate(ids)})

    def of(self, sample_ids: Sequence[str]) -> Tensor:
        """Posterior means in the model's scaled space, (N, C, h, w)."""
        if unknown := [name for name in sample_ids if name not in self.rows]:
            raise ArtifactError(f"row {unknown[0]!r} is not encoded", where=str(self.path), fix="prepare again")
        return self.latents.pick([self.rows[name] for name in sample_ids], None)
