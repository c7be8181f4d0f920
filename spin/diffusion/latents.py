"""Latents of the real cache: posterior means and variances by sample id, sampled when read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spin.core.errors import ArtifactError
from spin.core.schema import read_table, read_tensors
from spin.core.store import verify
from spin.diffusion.sampler import posterior_sample

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Latents:
    """Posterior means and log-variances, (N, C, h, w); no variance where latents are exact."""

    mean: Floats
    log_variance: Floats | None
    scaling: float
    shift: float

    def pick(self, rows: Sequence[int], noise: Tensor | None) -> Tensor:
        """(B, C, h, w) latents in the model's scaled space; `noise` draws from the posterior."""
        mean = torch.from_numpy(self.mean[list(rows)])
        if self.log_variance is None:
            return mean
        if noise is not None:
            mean = posterior_sample(mean, torch.from_numpy(self.log_variance[list(rows)]), noise)
        return (mean - self.shift) * self.scaling


def read_real(path: Path, sample_ids: Sequence[str], *, scaling: float, shift: float) -> Latents:
    """Real latents in the order of `sample_ids`."""
    verify(path)
    table = read_table(path)
    position = {name: i for i, name in enumerate(table["sample_id"].to_pylist())}
    try:
        rows = [position[name] for name in sample_ids]
    except KeyError as error:
        raise ArtifactError(f"row {error} is not encoded", where=str(path), fix="prepare again") from error
    mean, variance = (read_tensors(table, name) for name in ("latent_mean", "latent_log_variance"))
    return Latents(mean[rows], variance[rows], scaling, shift)
