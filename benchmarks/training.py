"""Pairs a second: an optimizer step of ours against the structure of Diffusion-DPO's published trainer.

    python -m benchmarks.training cpu

N3 takes one pair a pass, with the VAE and the text encoder in the loop and five numbers fetched from the device; N3b is
the same with the number of pairs a pass that is fastest for it. Ours is the train room's own loop. All make one AdamW
step of equal pairs. Ours takes the fastest of the same numbers of pairs a pass as N3b.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
import torch

from benchmarks.command import measure
from benchmarks.measuring import Check, Measured, Way, interleave, machine, matmul
from benchmarks.profiles import Profile
from benchmarks.tables import NOT_COMPILED
from benchmarks.training_peers import DiffusionDpo, Draws, Pictures
from benchmarks.world import World
from spin.core.counted import Trained
from spin.core.memory import is_shortage
from spin.core.plan import Visit
from spin.core.schema import read_table
from spin.diffusion.counting import count_learning
from spin.train.loop import Loop
from spin.train.processes import Processes

_COMPARED: Final = 2  # pairs
_ALLOWED: Final = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}  # largest difference of an error by its size


def training(profile: Profile, folder: Path) -> Measured:
    world = World.make(folder, profile)
    pairs = _Pairs.of(world)
    trainers = {dtype: DiffusionDpo(world.base, dtype=dtype, device=profile.device) for dtype in profile.dtypes}
    ways = [_peer(world, pairs, trainers[dtype], f"N3 {dtype}", 1) for dtype in profile.dtypes]
    best = {dtype: _fastest(profile, partial(_peer, world, pairs, each, "N3b")) for dtype, each in trainers.items()}
    ways += [_peer(world, pairs, trainers[dtype], f"N3b {dtype}", size) for dtype, size in best.items()]
    loops = Loops(world)
    fits = {dtype: loops.fastest(dtype) for dtype in profile.dtypes}
    last = profile.dtypes[-1]
    ways += [loops.ours(dtype, fits[dtype]) for dtype in profile.dtypes[:-1]]
    if profile.compile_training:
        ways += [loops.ours(last, fits[last], compiled=True)]
    ways += [loops.ours(last, fits[last], told=NOT_COMPILED if profile.compile_training else "")]
    ways += [loops.supervised(last, fits[last])]
    products = [matmul(profile.device, getattr(torch, dtype), side=profile.side) for dtype in profile.dtypes]
    rounds = interleave([*ways, *products], rounds=profile.rounds, device=profile.device)
    against = dict.fromkeys([f"N3 {profile.dtypes[0]}", *(f"{name} {profile.dtypes[-1]}" for name in ("N3", "N3b"))])
    facts = {"model": profile.model, "pairs a step": profile.step, "attention": "torch's choice"}
    facts |= {f"pairs a pass of ours {dtype}": size for dtype, size in fits.items()}
    facts |= {f"pairs a pass of N3b {dtype}": size for dtype, size in best.items()}
    facts |= {f"ours {last} waited for what it reads": round(loops.stalled(last), 4)}
    checks = list(_checks(world, pairs, trainers))
    found = Measured(
        "training", profile.name, "", "pair", against=list(against), checks=checks, facts=facts,
        machine=machine(profile.device), **rounds._asdict(),
    )  # fmt: skip
    per_image = found.ratio(f"ours {last}", _sft(last))
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


def _peer(world: World, pairs: _Pairs, trainer: DiffusionDpo, name: str, micro: int) -> Way:
    """One step; its operations are those of its UNets, as ours are."""
    names = [name for name in pairs.winners if name][: world.profile.step]
    batches = [pairs.pictures(world, names[start : start + micro]) for start in range(0, len(names), micro)]
    flops = _flops(world, pairs=True, dtype=trainer.dtype)
    return Way(name, lambda: trainer.step(batches), len(names), flops, trainer.dtype)


def _fastest(profile: Profile, way_of: Callable[[int], Way]) -> int:
    """The number of pairs a pass that is fastest, each tried once; larger ones may not fit."""
    seconds: dict[int, float] = {}
    for micro in profile.pairs:
        try:
            seconds[micro] = interleave([way_of(micro)], rounds=1, device=profile.device).timed[0].median
        except Exception as error:
            if not (seconds and is_shortage(error)):
                raise
    return min(seconds, key=seconds.__getitem__)


class Loops:
    """The train room's own loops, each opened by its first step: loading and compiling are part of that."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._opened: dict[str, Loop] = {}

    def fastest(self, dtype: str) -> int:
        """The number of pairs a pass that is fastest, tried as the baseline's are."""

        def way_of(micro: int) -> Way:
            self._close()
            return self.ours(dtype, micro, told=f", {micro} pairs a pass")

        try:
            return _fastest(self._world.profile, way_of)
        finally:
            self._close()

    def _close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()

    def ours(self, dtype: str, micro: int, *, compiled: bool = False, told: str = "") -> Way:
        step, flops = self._world.profile.step, _flops(self._world, pairs=True, dtype=dtype)
        name = f"ours {dtype}{told}"
        advance = self._advancing(name, dtype, micro_batch_size=micro, compile=compiled)
        return Way(name, advance, step, flops, dtype, compiled=compiled)

    def supervised(self, dtype: str, micro: int) -> Way:
        """The step of supervised fine-tuning: no opponent, and one latent for a pair's two."""
        images, flops = 2 * self._world.profile.step, _flops(self._world, pairs=False, dtype=dtype)
        advance = self._advancing(
            _sft(dtype), dtype, objective="sft", losers=None, batch_size=images, micro_batch_size=2 * micro,
            compile=self._world.profile.compile_training,
        )  # fmt: skip
        return Way(_sft(dtype), advance, images, flops, dtype)

    def stalled(self, dtype: str) -> float:
        """Share of the steps' seconds in which ours waited for what it reads."""
        done = self._opened[f"ours {dtype}"].done
        return done.stall_seconds / done.seconds

    def _advancing(self, name: str, dtype: str, **changes: object) -> Callable[[], None]:
        def advance() -> None:
            if name not in self._opened:
                self._opened[name] = _loop(self._world, name, dtype, **changes)
            self._opened[name].advance()

        return advance


def _sft(dtype: str) -> str:
    return f"SFT {dtype}, an image"


def _loop(world: World, name: str, dtype: str, **changes: object) -> Loop:
    folder = re.sub(r"[^a-z0-9]+", "-", name.lower())
    shutil.rmtree(world.folder / folder, ignore_errors=True)
    return Loop(world.train_request(folder, dtype=dtype, **changes), Processes(world.profile.device))


def _checks(world: World, pairs: _Pairs, trainers: Mapping[str, DiffusionDpo]) -> Iterator[Check]:
    """The policy's errors on both sides of the same pairs, from the same draws."""
    for dtype, trainer in trainers.items():
        compiled = world.profile.compile_training and dtype == world.profile.dtypes[-1]
        with _loop(world, f"check-{dtype}", dtype, micro_batch_size=_COMPARED, compile=compiled) as loop:
            step = loop.step_of
        visits = [Visit(row=row, visit=0, draw=0) for row in range(_COMPARED)]
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
