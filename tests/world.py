"""A tiny prepared world: real artifacts, made once in a test session and copied where a test writes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spin.core.layout import RealCache, StageFolder
from spin.core.plan import Plan
from spin.core.planning import write_plan
from spin.core.schema import content_digest, read_table, write_table
from spin.core.store import commit
from spin.diffusion.digest import model_digest
from spin.prepare.request import PrepareRequest
from spin.prepare.room import run as prepare
from spin.sample.request import SampleRequest
from spin.train.request import TrainingSettings, TrainRequest

ROWS = 24
READS = 160  # 20 steps of 8 pairs

SETTINGS = TrainingSettings(
    objective="spin", steps=4, batch_size=8, micro_batch_size=8, lr=3e-5, warmup_steps=2, lr_schedule="constant",
    weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, max_grad_norm=1.0, caption_dropout=0.15,
    flip=False, posterior_sample=True, ema_decay=None, gradient_checkpointing=False, state_every_steps=2,
    held_out_every_steps=4, beta=1000.0, sft_weight=0.03,
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Where everything stands; `base` is the packaged pipeline."""

    root: Path
    prompts: Path
    few_prompts: Path  # the train rows and 4 of validation: a training test need not measure 64
    cache: RealCache
    base: Path
    base_digest: str

    @property
    def captions(self) -> list[str]:
        """Captions of all rows, train rows first."""
        captions: list[str] = read_table(self.prompts)["caption"].to_pylist()
        return captions

    def stage(self, folder: Path, *, shard_size: int = ROWS, batch_size: int = 8, reads: int = READS) -> StageFolder:
        """A planned first iteration in `folder`; its name is part of every seed."""
        stage = StageFolder(folder / "iteration-01")
        self.plan(stage, shard_size=shard_size, batch_size=batch_size, reads=reads)
        return stage

    def plan(self, stage: StageFolder, **values: Any) -> Plan:
        settings = {"shard_size": ROWS, "batch_size": 8, "reads": READS, "draws": 1, "run_seed": 0, **values}
        return write_plan(
            stage, prompts=self.prompts, config_hash="c", code_version="1", parent_digest=self.base_digest, **settings
        )

    def sample_request(self, stage: StageFolder, shards: Sequence[int] = (0,), **changes: Any) -> SampleRequest:
        request = SampleRequest(
            stage=stage.path, shards=tuple(shards), opponent=self.base, opponent_digest=self.base_digest,
            text=self.cache.text, guidance_scale=1.0, num_inference_steps=2, batch_size=8, loser_source="latents",
            store_images=False, compile=False, device="cpu", dtype="float32", threads=1,
        )  # fmt: skip
        return replace(request, **changes)

    def train_request(
        self, stage: StageFolder, *, settings: dict[str, Any] | None = None, **changes: Any
    ) -> TrainRequest:
        request = TrainRequest(
            stage=stage.path, start=self.base, start_digest=self.base_digest, prompts=self.few_prompts,
            real=self.cache.latents, text=self.cache.text, draws=1, run_seed=0,
            settings=replace(SETTINGS, **(settings or {})), device="cpu", dtype="float32", threads=1,
        )  # fmt: skip
        return replace(request, **changes)


def make_world(root: Path, base: Path, **changes: Any) -> World:
    """The miniature's data encoded by any model: 24 train, 128 validation, 256 test rows; or what is asked for."""
    digest = model_digest(base)
    request = PrepareRequest(
        runs_root=root, run="world", source="miniature", path=None, image_column="image", caption_column="text",
        target="winners", rows=ROWS, held_out_share=0.1, max_bad_share=0.1, max_image_pixels=89_478_485,
        resolution=None, base=base, base_digest=digest, seed=0, device="cpu", threads=1, losers=True, flips=True,
    )  # fmt: skip
    prepared = prepare(replace(request, **changes))
    few = root / "few" / "prompts.parquet"
    table = read_table(prepared.prompts)
    validation = table.filter(pc.equal(table["split"], "validation")).slice(0, 4)
    rows = pa.concat_tables([table.filter(pc.equal(table["split"], "train")), validation]).combine_chunks()
    commit(few, lambda path: write_table(path, rows), kind="prompts", digest=content_digest)
    return World(root, prepared.prompts, few, RealCache(prepared.real), base, digest)


def copy_stage(stage: StageFolder, folder: Path) -> StageFolder:
    """The stage's plan and samples in a folder of their own; writing there leaves the session's copy alone."""
    shutil.copytree(stage.path, folder / stage.name)
    return StageFolder(folder / stage.name)


def fingerprint(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every file; stamps are hints, for a while."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".verified"]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
