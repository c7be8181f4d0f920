"""Settings of where and how the work runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from spin.core.config_rules import Tracker, check_trackers
from spin.core.config_setting import CHOSEN, MANY, MEASURED, Section, setting


class ExecutionConfig(Section):
    """Where and how it runs; dtype and threads can change results, attention and train_sharding full last digits."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto takes CUDA where there is one", source=CHOSEN)
    dtype: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "precision of the networks", source=f"{MEASURED}: bfloat16 trains slower on a CPU"
    )
    attention: Literal["auto", "flash", "efficient", "cudnn", "math"] = setting(
        "auto", "kernel of the denoiser's attention; auto: torch's choice",
        source="torch's scaled_dot_product_attention",
    )  # fmt: skip
    threads: int = setting(
        1, "torch threads of a room on the CPU", source=f"{MEASURED}: two cost 60 % more", ge=1, le=1024
    )
    executor: Literal["local", "workers"] = setting(
        "local", "who does the work: this process (local), or the workers of Prefect's work pools", source=CHOSEN
    )
    room: Literal["auto", "inline", "process"] = setting(
        "auto", "a room in this process (inline) or in its own (process); auto: inline on CPU", source=CHOSEN
    )
    shards_per_child: int | None = setting(
        None, "of one child flow run, which loads its model once; null shares them among the workers online",
        source=CHOSEN, ge=1, le=MANY,
    )  # fmt: skip
    max_attempts: int = setting(
        2, "child flow runs in a row that make none of their shards", source=CHOSEN, ge=1, le=100
    )
    mix_classes: bool = setting(
        False, "shards of one iteration may come from machines, or versions of torch, with other bits", source=CHOSEN
    )
    overlap: bool = setting(
        False, "train while the rest is sampled, score while the next is sampled; executor workers only", source=CHOSEN
    )
    overlap_minutes: float = setting(
        120.0, "that an overlapping training waits for any one shard, before it fails", source=CHOSEN, gt=0, le=10080
    )
    adopt: bool = setting(False, "take equal work of other runs in the root instead of making it again", source=CHOSEN)
    report_page: bool = setting(
        True, "write the report's page and plots at the end; the report command does later", source=CHOSEN
    )
    train_sharding: Literal["none", "optimizer", "full"] = setting(
        "none",
        "divided among a training's processes: the moments (optimizer), or weights too (full)",
        source="ZeRO-1 and ZeRO-3, arXiv 1910.02054",
    )
    train_processes: int | None = setting(
        None, "processes of a training; null for one on each GPU it may use, one on a CPU", source=CHOSEN, ge=1, le=1024
    )
    report_to: Annotated[tuple[Tracker, ...], Field(strict=False), BeforeValidator(check_trackers)] = setting(
        ("tensorboard",),
        "experiment trackers that follow a training; the run's own Parquet log is kept in any case",
        source="diffusers' training scripts",
        limits="none for no tracker; what is named must be installed",
    )
