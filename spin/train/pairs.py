"""The pairs that training reads: real latents, generated latents and captions by identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor

from spin.core.buckets import unpacked
from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder, mirrored_path
from spin.core.names import Finder, Names
from spin.core.plan import Plan, Visit
from spin.core.planning import read_plan, train_rows
from spin.core.schema import MIRRORED, POSTERIOR, UNSAFE, read_table
from spin.core.store import verify
from spin.core.tensor_rows import TensorRows, open_tensors
from spin.diffusion.latents import Latents, read_real, read_sizes, rows_behind, sizes_behind
from spin.diffusion.noise import TrainingDraws
from spin.train.standing import sampling_again

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trajectories:
    """The opponent's own way to each of its images."""

    states: Floats | TensorRows  # (N, S, C, h, w), or with an area in place of (h, w)
    timesteps: Tensor  # (S,) int64, where the S states are
    sizes: npt.NDArray[np.int16] | None = None  # (N, 2), height and width, where states are of several

    def and_then(self, more: Trajectories) -> Trajectories:
        """These ways, and behind them those of `more`, by the same timesteps."""
        states = rows_behind(self.states, more.states)
        assert states is not None
        return Trajectories(states, self.timesteps, sizes_behind(self.sizes, more.sizes))

    def at(self, rows: Sequence[int], timesteps: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
        """States x'_t of some rows and their t, (B, C, h, w) and (B,), from uniform draws of `steps` timesteps.

        A draw picks one of S equal parts of the schedule, so the draws stay what they are without trajectories.
        """
        chosen = timesteps * len(self.timesteps) // steps
        states = self.states[list(rows), chosen.numpy()]
        if self.sizes is not None:
            states = unpacked(states, self.sizes[list(rows)])
        return torch.from_numpy(states), self.timesteps[chosen]


@dataclass(frozen=True)
class Opening:
    """How the shards of a stage are read, and which row an image is of."""

    finder: Finder
    scaling: float
    shift: float
    trajectories: bool
    drop_unsafe: bool


@dataclass
class Pairs:
    """Everything training reads of one stage: names in memory, latents on disk.

    It grows while images are still being drawn; what is there stays in its place, so whoever reads it is not disturbed.
    """

    sample_ids: Sequence[str]
    prompt_hashes: Sequence[str]
    real: Latents
    generated: Latents | None  # or labelled losers; None for supervised training
    generated_rows: npt.NDArray[np.int32]  # (rows, draws): row of `generated`, -1 where there is none
    trajectories: Trajectories | None = None  # rows as in `generated`
    unsafe: frozenset[int] = frozenset()  # rows of `generated` that are not trained on
    opening: Opening | None = None  # of shards that come

    def add(self, shards: Sequence[Path], opening: Opening) -> None:
        """Open verified shards, behind those that are open."""
        generated, start = open_generated(shards, scaling=opening.scaling, shift=opening.shift), 0
        ways = _trajectories(shards) if opening.trajectories else None
        if self.generated is not None:
            start = len(self.generated.mean)
            generated = self.generated.and_then(generated)
        if self.trajectories is not None and ways is not None:
            ways = self.trajectories.and_then(ways)
        if opening.drop_unsafe:
            self.unsafe |= {start + row for row in _unsafe(shards)}
        self.generated, self.trajectories = generated, ways
        self.generated_rows = with_rows_of(shards, opening.finder, self.generated_rows, start=start)

    def shape_of(self, visit: Visit) -> tuple[int, ...]:
        """(C, h, w) of both sides of a pair; those of one pass are of one."""
        return self.real.shape_of(visit.row)

    def real_latents(self, visits: Sequence[Visit], draws: TrainingDraws, *, sampled: bool) -> Tensor:
        return self.real.pick([visit.row for visit in visits], draws.posterior if sampled else None, draws.flipped)

    def generated_latents(self, visits: Sequence[Visit], draws: TrainingDraws, *, sampled: bool) -> Tensor:
        assert self.generated is not None
        noise = draws.posterior_generated if sampled else None
        return self.generated.pick(self.rows_of(visits), noise, draws.flipped)

    def weights(self, visits: Sequence[Visit]) -> Tensor:
        """(B,) float32: 0 for a pair whose generated image is unsafe, else 1."""
        rows = self.rows_of(visits) if self.unsafe else [-1] * len(visits)
        return torch.tensor([float(row not in self.unsafe) for row in rows])

    def rows_of(self, visits: Sequence[Visit]) -> list[int]:
        """Rows of the generated images that some visits read."""
        draws = self.generated_rows.shape[1]
        rows = [int(self.generated_rows[v.row, v.draw]) if v.draw < draws else -1 for v in visits]
        if -1 in rows:
            visit = visits[rows.index(-1)]
            raise ArtifactError(
                f"row {self.sample_ids[visit.row]} has no generated image {visit.draw}",
                where="samples",
                fix="plan and sample the iteration again with as many reads as training makes",
            )
        return rows


def read_pairs(
    prompts: Path,
    real: Path,
    *,
    samples: StageFolder | None,
    losers: Path | None = None,
    trajectories: bool = False,
    drop_unsafe: bool = False,
    to_come: bool = False,
    scaling: float,
    shift: float,
) -> Pairs:
    """Read real rows of the train split, and what they are to win against.

    Args:
        samples: the stage whose generated images these are.
        losers: losers.parquet of the cache in their place; with neither, training is supervised.
        trajectories: also the states that the sampler met on its way to the generated images.
        drop_unsafe: whether images that a safety checker marked get no weight.
        to_come: whether the images are still being drawn: none is read yet, `add` takes their shards.
    """
    verify(prompts)
    ids, hashes = train_rows(prompts)
    pairs = Pairs(ids, hashes, _with_mirrored(real, ids, scaling, shift), None, np.full((len(ids), 0), -1, np.int32))
    if losers is not None:
        pairs.generated = _with_mirrored(losers, ids, scaling, shift)
        pairs.generated_rows = labelled_rows(len(ids))
    elif samples is not None:
        opening = Opening(ids.finder(), scaling, shift, trajectories, drop_unsafe)
        if to_come:
            pairs.opening = opening
        else:
            pairs.add(verified_shards(samples), opening)
    return pairs


def labelled_rows(count: int) -> npt.NDArray[np.int32]:
    """A labelled loser is the one and only draw of its row."""
    return np.arange(count, dtype=np.int32)[:, None]


def open_generated(shards: Sequence[Path], *, scaling: float, shift: float) -> Latents:
    """The generated images of verified shards, one behind the other."""
    columns, sizes = pq.read_schema(shards[0]).names, read_sizes(shards)
    if "latent" in columns:
        return Latents(open_tensors(shards, "latent"), None, 1.0, 0.0, sizes=sizes)

    def posterior(side: str = "") -> Latents:
        mean, variance = (open_tensors(shards, name + side) for name in POSTERIOR)
        return Latents(mean, variance, scaling, shift, sizes=sizes)

    mirrored = cache(partial(posterior, MIRRORED)) if POSTERIOR[0] + MIRRORED in columns else None
    return replace(posterior(), mirrored=mirrored)


def with_rows_of(
    shards: Sequence[Path], finder: Finder, places: npt.NDArray[np.int32], *, start: int
) -> npt.NDArray[np.int32]:
    """(rows, draws): where the image of a row's draw stands among those of all shards; -1 where there is none.

    Args:
        places: those of the shards before, (rows, draws); filled in where it has room.
        start: how many images the shards before hold.
    """
    for shard in shards:
        table = read_table(shard, ["sample_id", "draw"])
        rows, draws = finder.rows_of(table["sample_id"].to_pylist()), table["draw"].to_numpy()
        if (more := int(draws.max(initial=0)) + 1 - places.shape[1]) > 0:
            places = np.pad(places, ((0, 0), (0, more)), constant_values=-1)
        known = np.flatnonzero(rows >= 0)
        places[rows[known], draws[known]] = start + known
        start += len(table)
    return places


def _with_mirrored(path: Path, ids: Names, scaling: float, shift: float) -> Latents:
    """Latents of a file, and those of the mirrored pictures beside it once they are asked for."""
    read = partial(read_real, sample_ids=ids, scaling=scaling, shift=shift)
    return replace(read(path), mirrored=cache(partial(read, mirrored_path(path))))


def _trajectories(shards: Sequence[Path]) -> Trajectories:
    timesteps = torch.from_numpy(open_tensors(shards[:1], "timesteps")[[0]][0].astype(np.int64))
    return Trajectories(open_tensors(shards, "trajectory"), timesteps, read_sizes(shards))


def _unsafe(shards: Sequence[Path]) -> frozenset[int]:
    marks = (mark for shard in shards for mark in read_table(shard, [UNSAFE])[UNSAFE].to_pylist())
    return frozenset(row for row, mark in enumerate(marks) if mark)


def verified_shards(stage: StageFolder) -> list[Path]:
    """All shards of a stage, on an exact cover of its plan."""
    plan = read_plan(stage)
    return [verified_shard(stage, plan, shard) for shard in range(plan.shards)]


def verified_shard(stage: StageFolder, plan: Plan, shard: int) -> Path:
    """A shard whose every byte is as it was written, with the rows of its plan."""
    path = stage.samples(shard)
    verify(path)
    if read_table(path, ["position"])["position"].to_pylist() != list(plan.shard_range(shard)):
        raise ArtifactError(
            f"shard {shard} holds other rows than its plan",
            where=str(path),
            fix=f"spin-diffusion {sampling_again(stage, shard)}",
        )
    return path
