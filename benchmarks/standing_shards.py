"""A finished iteration at the size of SD-1.5, made without a model: for benchmarks of what only looks at files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from spin.core.layout import StageFolder, stamp_path
from spin.core.plan import Plan, prompt_hash
from spin.core.planning import write_plan
from spin.core.schema import PROMPTS, content_digest, tensor_column, tensor_field, write_rows, write_table
from spin.core.store import commit, stands
from spin.train.identity import manifest_of, training_artifacts, training_identity, training_stands
from spin.train.request import TrainingSettings, TrainRequest

SHARD_SIZE: Final = 512
LATENT: Final = (4, 64, 64)  # 32 KiB in float16, a shard 16 MiB
CHECKPOINT_BYTES: Final = 3_438_000_000  # SD-1.5's UNet in float32; zeros, which the file system need not keep
_SETTINGS: Final = TrainingSettings(
    objective="spin", steps=50, batch_size=2048, micro_batch_size=8, lr=1e-5, warmup_steps=200, lr_schedule="constant",
    weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, max_grad_norm=1.0, caption_dropout=0.1,
    flip=False, posterior_sample=True, ema_decay=None, gradient_checkpointing=False, state_every_steps=25,
    held_out_every_steps=25, beta=2000.0,
)  # fmt: skip


@dataclass(frozen=True)
class StandingIteration:
    """Prompts, plan, shards, logs and checkpoint; random latents."""

    folder: Path
    shards: int
    shard_size: int

    @property
    def stage(self) -> StageFolder:
        return StageFolder(self.folder / "iteration-01")

    @property
    def request(self) -> TrainRequest:
        """What its training is asked."""
        prompts = self.folder / "prompts.parquet"
        return TrainRequest(
            stage=self.stage.path, start=self.folder, start_digest="p", prompts=prompts, real=prompts, text=prompts,
            draws=1, run_seed=0, settings=_SETTINGS, device="cpu", dtype="float32", threads=1,
        )  # fmt: skip

    def plan(self) -> Plan:
        """Write the plan, or look that it stands: the same call, as in a run."""
        return write_plan(
            self.stage, prompts=self.request.prompts, reads=self.shards * self.shard_size, draws=1,
            shard_size=self.shard_size, batch_size=64, run_seed=0, config_hash="c", code_version="1",
            parent_digest="p",
        )  # fmt: skip

    def resume(self) -> tuple[int, bool]:
        """What a run does with a finished iteration: shards that it would make again, and whether training stands."""
        from flows.executors import missing_samples  # Prefect reads its settings when it is imported

        missing = missing_samples(self.stage, plan := self.plan(), identity_of(plan))
        return len(missing), not missing and training_stands(self.request, check=stands)

    def artifacts(self) -> list[Path]:
        """All that a resume looks at."""
        shards = [self.stage.samples(shard) for shard in range(self.shards)]
        return [self.request.prompts, self.stage.plan, self.stage.plan_rows, *shards, *training_artifacts(self.request)]

    def size_bytes(self) -> int:
        return sum(record.size_bytes for path in self.artifacts() for record in manifest_of(path).files)

    def forget(self) -> None:
        """As if nobody had ever hashed anything."""
        for path in self.artifacts():
            stamp_path(path).unlink(missing_ok=True)


def identity_of(plan: Plan) -> dict[str, Any]:
    return {"plan": plan.plan_hash}


def standing_iteration(
    folder: Path,
    shards: int,
    *,
    shard_size: int = SHARD_SIZE,
    latent: tuple[int, ...] = LATENT,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
) -> StandingIteration:
    """Make it; with the default sizes a shard takes 16 MiB of the disk."""
    made = StandingIteration(folder, shards, shard_size)
    rows = (_prompt(row) for row in range(shards * shard_size))
    commit(made.request.prompts, lambda path: write_rows(path, PROMPTS, rows), kind="prompts", digest=content_digest)
    identity = identity_of(made.plan())
    schema = pa.schema([tensor_field("latent", latent, "float16")])
    noise = np.random.default_rng(0).standard_normal((shard_size, *latent), np.float32)
    table = pa.table([tensor_column(noise.astype(np.float16))], schema=schema)
    for shard in range(shards):
        commit(made.stage.samples(shard), lambda to: write_table(to, table), kind="samples", identity=identity)

    def write_weights(target: Path) -> None:
        target.touch()
        os.truncate(target, checkpoint_bytes)

    trained = training_identity(made.request)
    for path in training_artifacts(made.request)[:-1]:
        commit(path, lambda to: write_table(to, pa.table({"step": [1]})), kind="log", identity=trained)
    commit(made.stage.checkpoint(_SETTINGS.steps), write_weights, kind="checkpoint", identity=trained)
    return made


def _prompt(row: int) -> dict[str, Any]:
    caption = f"caption {row}"
    known = {"sample_id": f"{row:032x}", "caption": caption, "prompt_hash": prompt_hash(caption), "split": "train"}
    return {name: known.get(name) for name in PROMPTS.names}
