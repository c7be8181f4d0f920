"""A planned iteration whose shards stand, made without a model: for benchmarks of what only looks at files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spin.core.layout import StageFolder
from spin.core.plan import Plan, prompt_hash
from spin.core.planning import write_plan
from spin.core.schema import PROMPTS, content_digest, tensor_column, tensor_field, write_rows, write_table
from spin.core.store import commit

_SHARD_SIZE = 128
_LATENT = (4, 16, 16)  # 4 kB each: a shard of 0.5 MB


def standing_shards(folder: Path, count: int) -> tuple[StageFolder, Plan, dict[str, Any]]:
    """Stage, plan and identity of `count` whole shards of random latents."""
    stage, prompts = StageFolder(folder / "iteration-01"), folder / "prompts.parquet"
    rows = [_prompt(row) for row in range(count * _SHARD_SIZE)]
    commit(prompts, lambda path: write_rows(path, PROMPTS, rows), kind="prompts", digest=content_digest)
    plan = write_plan(
        stage, prompts=prompts, reads=len(rows), draws=1, shard_size=_SHARD_SIZE, batch_size=64, run_seed=0,
        config_hash="c", code_version="1", parent_digest="p",
    )  # fmt: skip
    identity = {"plan": plan.plan_hash}
    latents = np.random.default_rng(0).standard_normal((_SHARD_SIZE, *_LATENT), np.float32)
    schema = pa.schema([tensor_field("latent", _LATENT, "float32")])
    table = pa.table([tensor_column(latents)], schema=schema)
    for shard in range(count):
        path = stage.samples(shard)
        commit(path, lambda to: write_table(to, table), kind="samples", digest=content_digest, identity=identity)
    return stage, plan, identity


def _prompt(row: int) -> dict[str, Any]:
    caption = f"caption {row}"
    return {
        name: value
        for name, value in {
            "sample_id": f"row-{row:07d}", "caption": caption, "prompt_hash": prompt_hash(caption), "split": "train",
        }.items()
        if name in PROMPTS.names
    }  # fmt: skip
