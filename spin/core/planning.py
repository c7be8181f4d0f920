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

from spin.core.errors import ArtifactError, DataError
from spin.core.layout import StageFolder
from spin.core.plan import Plan, PlanRow, image_seed, plan_rows, shard_count
from spin.core.schema import PLAN_ROWS, content_digest, read_table
from spin.core.store import commit, read_manifest, stands, verify


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
    identity = {
        "reads": reads, "draws": draws, "shard_size": shard_size, "batch_size": batch_size, "run_seed": run_seed,
        "config": config_hash, "code": code_version, "parent": parent_digest,
        "prompts": _content_digest_of(prompts),
    }  # fmt: skip
    ids, hashes = _train_columns(prompts)
    if not len(ids):
        raise DataError("holds no train rows", where=str(prompts), fix="add images, or lower data.held_out_share")
    if not stands(stage.plan_rows, identity):
        rows = plan_rows(
            rows=len(ids), reads=reads, draws=draws, shard_size=shard_size, run_seed=run_seed, stage=stage.name
        )
        tables = _tables(rows, ids, hashes, run_seed=run_seed, stage=stage.name, shard_size=shard_size)
        _commit_rows(stage.plan_rows, tables, shard_size, identity)
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
    _write_header(stage.plan, plan)
    return plan


def read_plan(stage: StageFolder) -> Plan:
    """The plan's header; it and the rows are verified against their manifests and against each other."""
    verify(stage.plan)
    try:
        raw = json.loads(stage.plan.read_text("utf-8"))
        expected = raw.pop("plan_hash")
        plan = Plan(**raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError("is not a plan of this version", where=str(stage.plan), fix="run again") from error
    if plan.plan_hash != expected:
        raise ArtifactError("plan does not have the hash it states", where=str(stage.plan), fix="run again")
    if verify(stage.plan_rows).content_digest != plan.rows_digest:
        raise ArtifactError("rows are not those of plan.json", where=str(stage.plan_rows), fix="run again")
    return plan


def read_shard_rows(stage: StageFolder, shard: int) -> list[dict[str, Any]]:
    """Rows of one shard; one row group is one shard, so nothing else is read."""
    try:
        with pq.ParquetFile(stage.plan_rows, page_checksum_verification=True) as file:
            if not 0 <= shard < file.num_row_groups:
                last = file.num_row_groups - 1
                raise ArtifactError(
                    f"no shard {shard}", where=str(stage.plan_rows), fix=f"name a shard from 0 to {last}"
                )
            rows: list[dict[str, Any]] = file.read_row_group(shard).to_pylist()
            return rows
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"cannot be read: {reason}", where=str(stage.plan_rows), fix="run again") from error


def train_rows(prompts: Path) -> tuple[list[str], list[str]]:
    """Sample ids and prompt hashes of the train split, in the file's order."""
    ids, hashes = _train_columns(prompts)
    return ids.to_pylist(), hashes.to_pylist()


def _train_columns(prompts: Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The same as Arrow columns: a million rows take 0.1 GB here, and three times that as Python strings."""
    verify(prompts)
    table = read_table(prompts, columns=["sample_id", "prompt_hash", "split"])
    table = table.filter(pc.equal(table["split"], "train"))
    return table["sample_id"], table["prompt_hash"]


def _tables(
    rows: Iterator[PlanRow],
    ids: pa.ChunkedArray,
    hashes: pa.ChunkedArray,
    *,
    run_seed: int,
    stage: str,
    shard_size: int,
) -> Iterator[pa.Table]:
    """Rows of plan.parquet, a shard at a time."""
    while chunk := list(islice(rows, shard_size)):
        picked = pa.array([row.row for row in chunk])
        names = ids.take(picked).to_pylist()
        seeds = [image_seed(run_seed, stage, name, row.draw) for name, row in zip(names, chunk, strict=True)]
        columns = [
            [row.position for row in chunk], names, hashes.take(picked).to_pylist(), [row.draw for row in chunk],
            seeds, [row.shard for row in chunk],
        ]  # fmt: skip
        arrays = [pa.array(values, field.type) for values, field in zip(columns, PLAN_ROWS, strict=True)]
        yield pa.Table.from_arrays(arrays, schema=PLAN_ROWS)


def _commit_rows(artifact: Path, tables: Iterator[pa.Table], shard_size: int, identity: dict[str, Any]) -> None:
    """One row group is one shard."""

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, PLAN_ROWS, use_dictionary=False, write_page_checksum=True) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=shard_size)

    commit(artifact, write, kind="plan-rows", digest=content_digest, identity=identity)


def _write_header(path: Path, plan: Plan) -> None:
    header = {"plan_hash": plan.plan_hash}
    if stands(path, header):
        return
    text = json.dumps({**asdict(plan), **header}, indent=1) + "\n"
    commit(path, lambda target: _write_text(target, text), kind="plan", identity=header)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def _content_digest_of(artifact: Path) -> str:
    manifest = read_manifest(artifact)
    if manifest is None:
        raise ArtifactError("is not there, or was never finished", where=str(artifact), fix="run again")
    return manifest.content_digest
