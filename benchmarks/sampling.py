"""Images a second: a shard of ours against diffusers' pipeline, as called by most and as tuned by the paper.

    python -m benchmarks.sampling cpu

N1 is the pipeline as its documentation calls it: one prompt, PNDM 50, PIL, PNG. N1b draws batches with a compiled UNet,
N2 also takes DPM-Solver++ 20: the paper's fast recipe. Ours is the sample room at work on a shard, from the plan to the
committed Parquet file; `UNet alone` is as many forward passes of its UNet and nothing else. On a CPU a profiler also
tells which share of one shard's seconds lie inside its network.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from benchmarks.command import measure
from benchmarks.measuring import Check, Measured, Way, interleave, machine, matmul, seconds_in
from benchmarks.profiles import Profile
from benchmarks.sampling_peers import Peer
from benchmarks.tables import NOT_COMPILED
from benchmarks.world import GUIDANCE, World
from spin.core.counted import network_calls
from spin.core.planning import read_shard_rows
from spin.core.schema import read_table, read_tensors
from spin.diffusion.counting import count_passes
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.noise import initial_noise
from spin.sample.opponent import resident_opponent
from spin.sample.room import run as sample

_STEPS: Final = {"pndm": 50, "dpmsolver++": 20}
_ALLOWED: Final = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}  # distance by the latents' own size, RMS
_COMPARED: Final = 2  # images, where nothing is compiled: no kernel then goes by the batch


def sampling(profile: Profile, folder: Path) -> Measured:
    world = World.make(folder, profile)
    ours = profile.dtypes[-1]
    shard = one_shard(world)
    ways = [
        *(_peer(world, f"N1 {dtype}", "pndm", dtype, batch=1) for dtype in profile.dtypes),
        *(_peer(world, f"DPM 20, batch 1, {d}", "dpmsolver++", d, batch=1) for d in profile.dtypes[:-1]),
        *_batches(world, ours),
        shard,
        _network_alone(world),
    ]
    products = [matmul(profile.device, getattr(torch, dtype), side=profile.side) for dtype in profile.dtypes]
    rounds = interleave([*ways, *products], rounds=profile.rounds, device=profile.device)
    against = [way.name for way in ways if way.name.startswith(("N1 ", "DPM")) or way.name == f"N2 {ours}"]
    facts = {
        "model": profile.model, "batch": profile.batch, "shard": profile.shard, "guidance": GUIDANCE,
        "attention": "torch's choice", "solver of ours": f"dpmsolver++ {_STEPS['dpmsolver++']}",
    }  # fmt: skip
    if profile.device == "cpu":  # a GPU is asked and not waited for
        facts["share of a shard inside its network"] = round(_share_inside(shard), 4)
    return Measured(
        "sampling", profile.name, "", "image", against=against, checks=list(_checks(world)), facts=facts,
        machine=machine(profile.device), **rounds._asdict(),
    )  # fmt: skip


def _batches(world: World, dtype: str) -> Iterator[Way]:
    """The tuned pipelines; the first compile is the cold one, and the same without it tells when that has paid."""
    batch, compiled = world.profile.batch, world.profile.compile_peers
    yield _peer(world, f"N2 {dtype}", "dpmsolver++", dtype, batch=batch, compiled=compiled)
    if compiled:
        yield _peer(world, f"N2 {dtype}{NOT_COMPILED}", "dpmsolver++", dtype, batch=batch)
    yield _peer(world, f"N1b {dtype}", "pndm", dtype, batch=batch, compiled=compiled)


def _peer(world: World, name: str, solver: str, dtype: str, *, batch: int, compiled: bool = False) -> Way:
    """The pipeline on one batch."""
    prompts, noise = _asked(world, images=batch)
    folder = world.folder / "pngs"
    peer, flops = _load_peer(world, solver, dtype, compiled=compiled), _flops(world, solver, decoded=True)
    return Way(name, lambda: peer.draw(prompts, noise, folder), batch, flops, dtype, compiled=compiled)


def one_shard(world: World) -> Way:
    """The room on a fresh stage each time; its model is resident after the first."""
    profile, numbers = world.profile, count()

    def make() -> None:
        stage = world.stage(f"ours-{next(numbers)}", images=profile.shard)
        made = sample(world.sample_request(stage))
        if made.images != profile.shard or made.notes:
            raise RuntimeError(f"{made.images} images of {profile.shard}; {made.notes}")
        shutil.rmtree(stage.path)

    return Way(
        f"ours {profile.dtypes[-1]}", make, profile.shard, _flops(world, "dpmsolver++", decoded=False),
        profile.dtypes[-1], compiled=profile.compile,
    )  # fmt: skip


def _network_alone(world: World) -> Way:
    """The resident opponent's network, asked as often as a batch asks it."""
    profile = world.profile
    batches = profile.shard // profile.batch
    stage = world.stage("alone", images=profile.batch)
    opponent, _ = resident_opponent(world.sample_request(stage))
    given = opponent.text.of([row["prompt_hash"] for row in read_shard_rows(stage, 0)])
    context = type(given).cat([given, given])
    noise = torch.randn(len(context), *opponent.shape, device=given.device).to(given.dtype)
    step = torch.tensor(500, device=given.device)

    @torch.no_grad()
    def ask() -> None:
        for _ in range(batches * network_calls("dpmsolver++", _STEPS["dpmsolver++"])):
            opponent.denoiser(noise, step, context)

    return Way(
        "UNet alone", ask, profile.shard, _flops(world, "dpmsolver++", decoded=False), profile.dtypes[-1]
    )  # fmt: skip


def _share_inside(shard: Way) -> float:
    """Of a shard's seconds, those of its network."""
    start = time.perf_counter()
    with seconds_in(Denoiser, "__call__") as inside:
        shard.run()
    return sum(inside) / (time.perf_counter() - start)


def _checks(world: World) -> Iterator[Check]:
    """The same noise and prompts through the pipeline and through the room, each as it is timed; and in float32."""
    profile, images = world.profile, world.profile.batch if world.profile.compile else _COMPARED
    prompts, noise = _asked(world, images=images)
    small = replace(world, profile=replace(profile, batch=images))
    for dtype in dict.fromkeys(["float32", *profile.dtypes]):
        for solver, steps in _STEPS.items():
            compiled = profile.compile and dtype == profile.dtypes[-1]
            theirs = _load_peer(world, solver, dtype, compiled=compiled).latents(prompts, noise)
            stage = small.stage(f"check-{solver}-{dtype}", images=images)
            changes = {"scheduler": solver, "num_inference_steps": steps, "dtype": dtype, "compile": compiled}
            sample(small.sample_request(stage, **changes))
            ours = torch.from_numpy(read_tensors(read_table(stage.samples(0)), "latent"))
            apart = float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())
            yield Check(f"latents of {solver} {steps}, {dtype}: ours from the pipeline's, RMS", apart, _ALLOWED[dtype])


def _load_peer(world: World, solver: str, dtype: str, *, compiled: bool) -> Peer:
    return Peer.load(
        world.base, solver=solver, steps=_STEPS[solver], guidance=GUIDANCE, dtype=dtype, device=world.profile.device,
        compiled=compiled,
    )  # fmt: skip


def _asked(world: World, *, images: int) -> tuple[list[str], Tensor]:
    """Captions and starting noise of the plan's first rows."""
    rows = read_shard_rows(world.stage(f"asked-{images}", images=images), 0)
    captions = world.captions
    noise = initial_noise([row["seed"] for row in rows], world.skeleton.latent_shape)
    return [captions[row["prompt_hash"]] for row in rows], noise


def _flops(world: World, solver: str, *, decoded: bool) -> float:
    passes = count_passes(world.skeleton)
    return 2 * network_calls(solver, _STEPS[solver]) * passes.denoised.total + decoded * passes.decoded.total


if __name__ == "__main__":
    measure(sampling, __doc__)
