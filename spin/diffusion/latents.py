"""Latents of the real cache: posterior means and variances by sample id, read and sampled when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor

from spin.core.buckets import unpacked
from spin.core.errors import ArtifactError
from spin.core.names import Names
from spin.core.schema import LATENT_SIZES, POSTERIOR, read_batches
from spin.core.store import verify
from spin.core.tensor_rows import TensorRows, open_tensors
from spin.diffusion.sampler import posterior_sample

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Latents:
    """Posterior means and log-variances, (N, C, h, w); no variance where latents are exact.

    `places` says where in them a row stands; None: in its own place. `mirrored` opens the encodings of the mirrored
    pictures, of the same rows; None where there are none. Where latents are of several `sizes`, (N, 2), height and
    width, they are stored as (N, C, area) with room to spare, and rows of one size are picked at once.
    """

    mean: Floats | TensorRows
    log_variance: Floats | TensorRows | None
    scaling: float
    shift: float
    places: npt.NDArray[np.int32] | None = None
    mirrored: Callable[[], Latents] | None = None
    sizes: npt.NDArray[np.int16] | None = None

    def shape_of(self, row: int) -> tuple[int, ...]:
        """(C, h, w) of a row."""
        if self.sizes is None:
            return self.mean.shape[1:]
        return self.mean.shape[1], *self.sizes[self._at([row])[0]].tolist()

    def pick(self, rows: Sequence[int], noise: Tensor | None, flipped: Tensor | None = None) -> Tensor:
        """(B, C, h, w) latents in the model's scaled space.

        Args:
            noise: draws from the posterior; None takes its mean.
            flipped: (B,) bool, whose picture is mirrored; None for none.
        """
        if flipped is not None and flipped.any():
            return self._pick_sides(rows, noise, flipped)
        at = self._at(rows)
        mean = self._read(self.mean, at)
        if self.log_variance is None:
            return mean
        if noise is not None:
            mean = posterior_sample(mean, self._read(self.log_variance, at), noise)
        return (mean - self.shift) * self.scaling

    def and_then(self, more: Latents) -> Latents:
        """These rows, and behind them those of `more`, which are of the same kind."""
        mean = rows_behind(self.mean, more.mean)
        assert mean is not None
        return replace(
            self,
            mean=mean,
            log_variance=rows_behind(self.log_variance, more.log_variance),
            mirrored=_mirrored_behind(self.mirrored, more.mirrored),
            sizes=sizes_behind(self.sizes, more.sizes),
        )

    def _at(self, rows: Sequence[int]) -> npt.NDArray[Any]:
        return np.asarray(rows, np.int64) if self.places is None else self.places[list(rows)]

    def _read(self, stored: Floats | TensorRows, at: npt.NDArray[Any]) -> Tensor:
        values = stored[at]
        return torch.from_numpy(values if self.sizes is None else unpacked(values, self.sizes[at]))

    def _pick_sides(self, rows: Sequence[int], noise: Tensor | None, flipped: Tensor) -> Tensor:
        """A mirrored picture has an encoding of its own: mirrored latents are only near it."""
        if self.mirrored is None:
            raise ArtifactError("holds no mirrored pictures", where="latents", fix="run again; they are encoded then")
        picked: dict[int, Tensor] = {}
        for latents, chosen in ((self, ~flipped), (self.mirrored(), flipped)):
            places = chosen.nonzero().flatten().tolist()
            if places:
                found = latents.pick([rows[place] for place in places], None if noise is None else noise[places])
                picked |= dict(zip(places, found, strict=True))
        return torch.stack([picked[place] for place in range(len(rows))])


def read_real(path: Path, sample_ids: Sequence[str], *, scaling: float, shift: float) -> Latents:
    """Real latents in the order of `sample_ids`; the file is verified now, its rows are read when they are picked."""
    verify(path)
    names = sample_ids if isinstance(sample_ids, Names) else Names.of([sample_ids])
    places = names.finder().places(batch["sample_id"].to_pylist() for batch in read_batches(path, ["sample_id"]))
    if len(missing := np.flatnonzero(places < 0)):
        raise ArtifactError(f"row {names[missing[0]]!r} is not encoded", where=str(path), fix="prepare again")
    mean, variance = (open_tensors([path], name) for name in POSTERIOR)
    return Latents(mean, variance, scaling, shift, places, sizes=read_sizes([path]))


def sizes_behind(
    sizes: npt.NDArray[np.int16] | None, more: npt.NDArray[np.int16] | None
) -> npt.NDArray[np.int16] | None:
    """(N + M, 2) sizes of latents one behind the other; None where all are of one size."""
    return None if sizes is None or more is None else np.concatenate([sizes, more])


def rows_behind(rows: Floats | TensorRows | None, more: Floats | TensorRows | None) -> TensorRows | None:
    """Rows of files one behind the other; None where there are none."""
    if rows is None or more is None:
        return None
    assert isinstance(rows, TensorRows)
    assert isinstance(more, TensorRows)
    return rows.and_then(more)


def _mirrored_behind(
    mirrored: Callable[[], Latents] | None, more: Callable[[], Latents] | None
) -> Callable[[], Latents] | None:
    """Opened at once: left for later, each would open all before it."""
    if mirrored is None or more is None:
        return None
    both = mirrored().and_then(more())
    return lambda: both


def read_sizes(paths: Sequence[Path]) -> npt.NDArray[np.int16] | None:
    """(N, 2), height and width of the latents of some files, one behind the other; None where all are of one size."""
    if LATENT_SIZES[0] not in pq.read_schema(paths[0]).names:
        return None
    batches = (batch for path in paths for batch in read_batches(path, LATENT_SIZES))
    return np.concatenate(
        [np.stack([column.to_numpy() for column in batch], axis=1, dtype=np.int16) for batch in batches]
    )
