"""Latents of held-out images out of the real cache, which holds those of all training rows too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from spin.core.errors import ArtifactError
from spin.core.schema import read_table, read_tensors
from spin.core.store import verify
from spin.evaluate.asked import take_rows


@dataclass(frozen=True)
class HeldOutLatents:
    """Finds latents by sample id; only the ids of all rows are in memory."""

    path: Path
    ids: pa.ChunkedArray
    scaling: float
    shift: float

    @classmethod
    def open(cls, path: Path, *, scaling: float, shift: float) -> HeldOutLatents:
        verify(path)
        return cls(path, read_table(path, ["sample_id"])["sample_id"], scaling, shift)

    def of(self, sample_ids: Sequence[str]) -> Tensor:
        """Posterior means in the model's scaled space, (N, C, h, w)."""
        positions = pc.index_in(pa.array(sample_ids), value_set=self.ids).to_pylist()
        if None in positions:
            raise ArtifactError(
                f"row {sample_ids[positions.index(None)]!r} is not encoded", where=str(self.path), fix="prepare again"
            )
        mean = read_tensors(take_rows(self.path, positions, "latent_mean"), "latent_mean")
        return (torch.from_numpy(mean.copy()) - self.shift) * self.scaling
