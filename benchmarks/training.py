"""Pairs a second: an optimizer step of ours against the structure of Diffusion-DPO's published trainer.

    python -m benchmarks.training cpu

N3 takes one pair a pass, with the VAE and the text encoder in the loop and five numbers fetched from the device; N3b is
the same with the number of pairs a pass that is fastest for it. Ours is the train room's own loop. All make one AdamW
step of equal pairs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
import torch

from benchmarks.command import measure
from benchmarks.measuring import Check, Measured, Way, interleave, machine, matmul
from benchmarks.profiles import Profile
from benchmarks.training_peers import DiffusionDpo, Draws, Pictures
from benchmarks.world import World
from spin.core.counted import Trained
from spin.core.plan import Visit
from spin.core.schema import read_table
from spin.diffusion.counting import count_learning
from spin.train.loop import Loop
from spin.train.processes import Processes

_ALLOWED: Final = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}  # largest difference of an error by its size


def training(profile: Profile, folder: Path) -> Measured:
    world = World.make(folder, profile)
    pairs = _Pairs.of(world)
    trainers = {dtype: DiffusionDpo(world.base, dtype=dtype, device=profile.device) for dtype in profile.dtypes}
    ways = [_peer(world, pairs, trainers[dtype], f"N3 {dtype}", micro=1) for dtype in profile.dtypes]
    best = {dtype: _best(world, pairs, trainer) for dtype, trainer in trainers.items()}
    ways += [_peer(world, pairs, trainers[dtype], f"N3b {dtype}", micro=size) for dtype, size in best.items()]
    ways += [_ours(world, f"ours {dtype}", dtype) for dtype in profile.dtypes]
    ways += [_supervised(world, profile.dtypes[-1])]
    products = [matmul(profile.device, getattr(torch, dtype), side=profile.side) for dtype in profile.dtypes]
    timed, load = interleave([*ways, *products], rounds=profile.rounds, device=profile.device)
    against = dict.fromkeys([f"N3 {profile.dtypes[0]}", *(f"{name} {profile.dtypes[-1]}" for name in ("N3", "N3b"))])
    facts = {"model": profile.model, "pairs a pass": profile.pairs, "pairs a step": profile.step}
    facts |= {f"pairs a pass of N3b {dtype}": size for dtype, size in best.items()}
    checks = list(_checks(world, pairs, trainers))
    found = Measured(
        "training", profile.name, "", "pair", timed, list(against), checks, facts, machine(profile.device), load
    )
    per_image = found.ratio(f"ours {profile.dtypes[-1]}", _sft(profile.dtypes[-1]))
    return replace(found, facts={**facts, "a pair by an image of SFT": round(per_image.value, 3)})


@dataclass(frozen=True)
class _Pairs:
    """The data's own pictures, by sample id, as both sides read them."""

    winners: dict[str, bytes]
    losers: dict[str, bytes]
    captions: dict[str, str]

    @classmethod
    def of(cls, world: World) -> _Pairs:
        source = pq.read_table(world.folder / "data").to_pydict()
        rows = read_table(world.prompts).to_pydict()
        ids = dict(zip(rows["caption"], rows["sample_id"], strict=True))
        named = [ids.get(caption, "") for caption in source["text"]]
        pick = lambda column: dict(zip(named, source[column], strict=True))  # noqa: E731
        return cls(pick("image"), pick("loser"), pick("text"))

    def pictures(self, world: World, names: list[str]) -> Pictures:
        sides = ([side[name] for name in names] for side in (self.winners, self.losers))
        return Pictures.read(world.base, *sides, [self.captions[name] for name in names])


def _peer(world: World, pairs: _Pairs, trainer: DiffusionDpo, name: str, *, micro: int) -> Way:
    """One step; its operations are those of its UNets, as ours are."""
    names = [name for name in pairs.winners if name][: world.profile.step]
    batches = [pairs.pictures(world, names[start : start + micro]) for start in range(0, len(names), micro)]
    flops = _flops(world, pairs=True, dtype=trainer.dtype)
    return Way(name, lambda: trainer.step(batches), len(names), flops, trainer.dtype)


def _best(world: World, pairs: _Pairs, trainer: DiffusionDpo) -> int:
    """The baseline's fastest number of pairs a pass, tried once each."""
    seconds: dict[int, float] = {}
    for micro in world.profile.peer_pairs:
        way = _peer(world, pairs, trainer, "", micro=micro)
        (timed,), _ = interleave([way], rounds=1, device=world.profile.device)
        seconds[micro] = timed.median
    return min(seconds, key=seconds.__getitem__)


def _ours(world: World, name: str, dtype: str) -> Way:
    loop = _loop(world, f"ours-{dtype}", dtype)
    return Way(name, loop.advance, world.profile.step, _flops(world, pairs=True, dtype=dtype), dtype)


def _supervised(world: World, dtype: str) -> Way:
    """Beside it the step of supervised fine-tuning: no opponent, and one latent for a pair's two."""
    images, passes = 2 * world.profile.step, 2 * world.profile.pairs  # as many latents a pass as pairs have
    loop = _loop(world, f"sft-{dtype}", dtype, objective="sft", losers=None, batch_size=images, micro_batch_size=passes)
    return Way(_sft(dtype), loop.advance, images, _flops(world, pairs=False, dtype=dtype), dtype)


def _sft(dtype: str) -> str:
    return f"SFT {dtype}, an image"


def _loop(world: World, name: str, dtype: str, **changes: object) -> Loop:
    shutil.rmtree(world.folder / name, ignore_errors=True)
    request = world.train_request(name, dtype=dtype, **changes)
    return Loop(request, {}, Processes(request.device))


def _checks(world: World, pairs: _Pairs, trainers: Mapping[str, DiffusionDpo]) -> Iterator[Check]:
    """The policy's errors on both sides of the same pairs, from the same draws."""
    for dtype, trainer in trainers.items():
        loop = _loop(world, f"check-{dtype}", dtype)
        step = loop.step_of
        visits = [Visit(row=row, visit=0, draw=0) for row in range(2)]
        names = [step.reader.pairs.sample_ids[visit.row] for visit in visits]
        drawn = step.reader.draw(visits, 0)
        measured = step.measure(visits)
        assert measured.generated is not None
        ours = torch.cat([measured.real, measured.generated]).detach().cpu()
        draws = Draws(drawn.timesteps, drawn.noise, drawn.posterior, drawn.posterior_generated)
        theirs = trainer.losses(pairs.pictures(world, names), draws)[1].cpu()
        apart = float(((ours - theirs) / theirs).abs().max())
        yield Check(f"denoising errors of two pairs, {dtype}: ours from the baseline's", apart, _ALLOWED[dtype])


def _flops(world: World, *, pairs: bool, dtype: str) -> float:
    trained = Trained(
        images=1, opponent="own" if pairs else None, timesteps=1, lora_rank=None, lora_layers="attention",
        recompute=False, dtype=dtype,
    )  # fmt: skip
    return count_learning(world.skeleton, trained).flops.total


if __name__ == "__main__":
    measure(training, __doc__)
