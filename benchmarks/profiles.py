"""How large a benchmark is on a CPU and on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Profile:
    """One kind of machine: what is measured there, and how much of it a round takes."""

    name: Literal["cpu", "gpu", "trial"]
    device: Literal["cpu", "cuda"]
    model: Literal["miniature", "mid", "sd15"]
    dtypes: tuple[str, ...]  # the last one is what ours runs
    rounds: int
    rows: int  # pictures with captions
    batch: int  # images that are drawn at once
    shard: int  # images that a round of ours draws
    pairs: tuple[int, ...]  # of one pass of training, ours and the tuned baseline's: tried, and the fastest taken
    step: int  # pairs of one optimizer step
    judged: int  # pictures that the judges score in a round
    latents: int  # that are written and read in a round
    standing: int  # shards of a finished iteration
    side: int  # of the matrices
    copied: int  # bytes
    compile: bool  # whether ours compiles
    compile_peers: bool = True  # their batches, as the paper does
    compile_training: bool = True  # of ours; the baseline's trainer does not
    workers: tuple[int, ...] = (1, 16)
    slept: float = 20.0  # seconds of a shard that stands for one of a GPU


CPU: Final = Profile(
    name="cpu", device="cpu", model="mid", dtypes=("float32", "bfloat16"), rounds=5, rows=40, batch=8, shard=16,
    pairs=(2, 4, 8), step=8, judged=5, latents=2048, standing=200, side=2048, copied=2**28, compile=True,
    compile_training=False,
)  # fmt: skip
GPU: Final = Profile(
    name="gpu", device="cuda", model="sd15", dtypes=("bfloat16",), rounds=5, rows=1200, batch=64, shard=512,
    pairs=(8, 16, 32), step=64, judged=64, latents=8192, standing=200,
    side=8192, copied=2**32, compile=True,
)  # fmt: skip
TRIAL: Final = Profile(  # the benchmarks themselves are tried with it, in seconds
    name="trial", device="cpu", model="miniature", dtypes=("float32", "bfloat16"), rounds=2, rows=16, batch=2, shard=4,
    pairs=(2,), step=2, judged=5, latents=64, standing=3, side=128,
    copied=2**20, compile=False, compile_peers=False, compile_training=False,
    workers=(1, 2), slept=0.1,
)  # fmt: skip
PROFILES: Final = {profile.name: profile for profile in (CPU, GPU, TRIAL)}
