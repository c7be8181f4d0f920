"""What the evaluate room is asked and what it answers; paths and exact values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EvaluateRequest:
    runs_root: Path
    subject: Path | None  # checkpoint (diffusers folder); None: the real held-out images
    subject_digest: str
    prompts: Path
    real: Path  # cache folder with held-out.parquet and real.parquet
    data_digest: str
    split: str
    max_prompts: int | None
    guidance_scale: float
    num_inference_steps: int
    seed: int
    batch_size: int
    shard_size: int  # held-out images in one file
    shards: tuple[int, ...] | None  # None: all of them
    finish: bool  # after the shards, the numbers of the whole set; every shard must stand then
    scorers: tuple[str, ...]
    denoising_draws: int
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True)
class EvaluateResult:
    folder: Path  # an EvaluationFolder of core.layout
    images_made: int
    images_scored: int  # 0 where the evaluation stood
    seconds: float
    made: tuple[int, ...] = ()  # shards that this call made something of
