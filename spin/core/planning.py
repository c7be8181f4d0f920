"""Writes and reads the plan of an iteration; a million rows need no memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder
from spin.core.plan import Plan, PlanRow, image_seed, plan_rows, shard_count
from spin.core.schema import PLAN_ROWS, content_digest
from spin.core.store import commit, is_whole, read_manifest, verify


def write_plan(
    stage: StageFolder,
    *,
    prompts: Path,
    reads: int,
    draws: int,
    shard_size: int,
    batch_size: int,
    run_seed: int,
    config_hash: str,
    code_version: str,
    parent_digest: str,
) -> Plan:
    """Plan the images that `reads` readings of the training rows need; a standing equal plan is kept.

    Args:
        prompts: prompts.parquet; only its train rows are planned.
        reads: optimizer steps x pairs a step.
        draws: images per row.
        parent_digest: digest of the opponent's checkpoint.
    """
    ids, hashes = train_rows(prompts)
    identity = {
        "reads": reads, "draws": draws, "shard_size": shard_size, "batch_size": batch_size, "run_seed": run_seed,
        "config": config_hash, "code": code_version, "parent": parent_digest,
        "prompts": _content_digest_of(prompts),
    }  # fmt: skip
    if not is_whole(stage.plan_rows, identity=identity):
        rows = plan_rows(
            rows=len(ids), reads=reads, draws=draws, shard_size=shard_size, run_seed=run_seed, stage=stage.name
        )
        described = _describe(rows, ids, hashes, run_seed, stage.name)
        commit(
            stage.plan_rows,
            lambda path: _write_rows(path, described, shard_size),
            kind="plan-rows",
            digest=content_digest,
            identity=identity,
        )
    images = min(reads, len(ids) * draws)
    plan = Plan(
        stage=stage.name,
        images=images,
        shards=shard_count(images, shard_size),
        shard_size=shard_size,
        batch_size=batch_size,
        config_hash=config_hash,
        code_version=code_version,
        parent_digest=parent_digest,
        rows_digest=_content_digest_of(stage.plan_rows),
    )
    header = {"plan_hash": plan.plan_hash}
    if not is_whole(stage.plan, identity=header):
        text = json.dumps({**asdict(plan), **header}, indent=1) + "\n"
        commit(stage.plan, lambda path: _write_text(path, text), kind="plan", identity=header)
    return plan


def read_plan(stage: StageFolder) -> Plan:
    """The plan's header, verified against its own hash."""
    verify(stage.plan)
    raw = json.loads(stage.plan.read_text("utf-8"))
    expected = raw.pop("plan_hash")
    plan = Plan(**raw)
    if plan.plan_hash != expected:
        raise ArtifactError("plan does not have the hash it states", where=str(stage.plan), fix="run again")
    return plan


def read_shard_rows(stage: StageFolder, shard: int) -> list[dict[str, Any]]:
    """Rows of one shard; one row group is one shard, so nothing else is read."""
    with pq.ParquetFile(stage.plan_rows, page_checksum_verification=True) as file:
        if not 0 <= shard < file.num_row_groups:
            last = file.num_row_groups - 1
            raise ArtifactError(f"no shard {shard}", where=str(stage.plan_rows), fix=f"name a shard from 0 to {last}")
        rows: list[dict[str, Any]] = file.read_row_group(shard).to_pylist()
        return rows


def train_rows(prompts: Path) -> tuple[list[str], list[str]]:
    """Sample ids and prompt hashes of the train split, in the file's order."""
    table = pq.read_table(prompts, columns=["sample_id", "prompt_hash", "split"], partitioning=None)
    table = table.filter(pc.equal(table["split"], "train"))
    return table["sample_id"].to_pylist(), table["prompt_hash"].to_pylist()


def _describe(
    rows: Iterator[PlanRow], ids: list[str], hashes: list[str], run_seed: int, stage: str
) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "position": row.position,
            "sample_id": ids[row.row],
            "prompt_hash": hashes[row.row],
            "draw": row.draw,
            "seed": image_seed(run_seed, stage, ids[row.row], row.draw),
            "shard": row.shard,
        }


def _write_rows(path: Path, rows: Iterator[dict[str, Any]], shard_size: int) -> None:
    with pq.ParquetWriter(path, PLAN_ROWS, use_dictionary=False, write_page_checksum=True) as writer:
        while chunk := list(islice(rows, shard_size)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=PLAN_ROWS), row_group_size=shard_size)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def _content_digest_of(artifact: Path) -> str:
    manifest = read_manifest(artifact)
    if manifest is None:
        raise ArtifactError("is not there, or was never finished", where=str(artifact), fix="run again")
    return manifest.content_digest
