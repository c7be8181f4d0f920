"""Writes and reads the plan of an iteration; a million rows need no memory."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spin.core.errors import ArtifactError, DataError
from spin.core.layout import StageFolder
from spin.core.names import Names
from spin.core.plan import Plan, PlanRow, image_seed, plan_rows, shard_count
from spin.core.schema import PLAN_ROWS, SIZES, content_digest
from spin.core.store import commit, read_manifest, stands, verify

_GROUP_ROWS: Final = 8192  # footers: 5.5 MB with a row group per 128 rows of a million, 0.1 MB with one per 8192
_GROUPS_IN_WINDOW: Final = 8  # picked in one pass over the prompts, and then in memory
_READ_ROWS: Final = 8192
_READ_BYTES: Final = 1 << 18  # else pyarrow holds a whole column of prompts.parquet
_PICKED: Final = np.dtype([("row", np.int64), ("draw", np.int32)])


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
    images = _planned_images(stage, identity)
    if images is None:
        images = _write_rows(stage, prompts, identity, reads, draws, shard_size, run_seed)
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


def _planned_images(stage: StageFolder, identity: Mapping[str, Any]) -> int | None:
    """Images of a plan whose rows stand; None where there is none, or nobody has written its header."""
    if not stands(stage.plan_rows, identity):
        return None
    try:
        return read_plan(stage).images
    except ArtifactError:
        return None


def _write_rows(
    stage: StageFolder, prompts: Path, identity: Mapping[str, Any], reads: int, draws: int, size: int, run_seed: int
) -> int:
    """Write the rows unless they stand; their number."""
    with _open_train(prompts) as train:
        if not train.count:
            raise DataError("holds no train rows", where=str(prompts), fix="add images, or lower data.held_out_share")
        if not stands(stage.plan_rows, identity):
            rows = plan_rows(
                rows=train.count, reads=reads, draws=draws, shard_size=size, run_seed=run_seed, stage=stage.name
            )
            tables = _tables(rows, train, run_seed=run_seed, stage=stage.name, shard_size=size)
            _commit_rows(stage.plan_rows, train.planned, tables, identity)
        return min(reads, train.count * draws)


def read_plan(stage: StageFolder) -> Plan:
    """The plan's header, verified, and against its rows; whoever reads those calls `verify` before."""
    verify(stage.plan)
    try:
        raw = json.loads(stage.plan.read_text("utf-8"))
        expected = raw.pop("plan_hash")
        plan = Plan(**raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError("is not a plan of this version", where=str(stage.plan), fix="run again") from error
    if plan.plan_hash != expected:
        raise ArtifactError("plan does not have the hash it states", where=str(stage.plan), fix="run again")
    if verify(stage.plan_rows, trusting=True).content_digest != plan.rows_digest:
        raise ArtifactError("rows are not those of plan.json", where=str(stage.plan_rows), fix="run again")
    return plan


def read_shard_rows(stage: StageFolder, shard: int) -> list[dict[str, Any]]:
    """Rows of one shard; a row group holds whole shards, so no other one is read."""
    with (
        _reading(stage.plan_rows),
        pq.ParquetFile(stage.plan_rows, page_checksum_verification=True, pre_buffer=False) as file,
    ):
        groups = file.num_row_groups
        group = bisect_left(range(groups), shard, key=_last_shard_of(file))
        if shard < 0 or group == groups:
            last = _last_shard_of(file)(groups - 1)
            raise ArtifactError(f"no shard {shard}", where=str(stage.plan_rows), fix=f"name a shard from 0 to {last}")
        table = file.read_row_group(group)
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["shard"], shard)).to_pylist()
        return rows


def count_train_rows(prompts: Path) -> int:
    """How many rows the train split has."""
    split = pq.read_table(prompts, columns=["split"])["split"]
    return int(pc.sum(pc.equal(split, "train")).as_py() or 0)


def train_rows(prompts: Path) -> tuple[Names, Names]:
    """Sample ids and prompt hashes of the train split, in the file's order."""
    with _open_train(prompts) as train:
        ids, hashes = (
            Names.of(batch[name].to_pylist() for batch in train.batches()) for name in ("sample_id", "prompt_hash")
        )
        return ids, hashes


@dataclass(frozen=True)
class _TrainRows:
    """The train rows of an open prompts.parquet, read in passes: none of them stays in memory."""

    prompts: Path
    file: pq.ParquetFile
    count: int

    @property
    def sizes(self) -> tuple[pa.Field, ...]:
        """Columns of the pictures' sizes, where the rows have such."""
        return SIZES if SIZES[0].name in self.file.schema_arrow.names else ()

    @property
    def planned(self) -> pa.Schema:
        """Columns of a plan of these rows."""
        return pa.schema([*PLAN_ROWS, *self.sizes])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """sample_id and prompt_hash of all rows, in the file's order."""
        for batch, train in _batches(self.prompts, self.file, ["sample_id", "prompt_hash"]):
            yield batch.take(pa.array(train))

    def pick(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """The rows of these sorted numbers, with their sizes where they have such; one pass over the file."""
        found: list[pa.RecordBatch] = []
        start, names = 0, ["sample_id", "prompt_hash", *(field.name for field in self.sizes)]
        for batch, train in _batches(self.prompts, self.file, names):
            first, last = np.searchsorted(rows, [start, start + len(train)])
            if first < last:
                found.append(batch.take(pa.array(train[rows[first:last] - start])))
            start += len(train)
        return pa.Table.from_batches(found).combine_chunks()


@contextmanager
def _open_train(prompts: Path) -> Iterator[_TrainRows]:
    """Open the prompts verified; every pass reads the same file, whatever is put under its name meanwhile."""
    verify(prompts)
    with _reading(prompts):
        opened = pq.ParquetFile(prompts, page_checksum_verification=True, pre_buffer=False, buffer_size=_READ_BYTES)
    with opened as file:
        yield _TrainRows(prompts, file, sum(len(train) for _, train in _batches(prompts, file, [])))


def _batches(
    prompts: Path, file: pq.ParquetFile, columns: list[str]
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
    """A batch of the file at a time, and which of its rows are of the train split."""
    with _reading(prompts):
        for batch in file.iter_batches(batch_size=_READ_ROWS, columns=[*columns, "split"], use_threads=False):
            yield batch, np.flatnonzero(pc.equal(batch["split"], "train"))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What pyarrow says of a file that it cannot read, in one line."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"cannot be read: {reason}", where=str(path), fix="run again") from error


def _tables(
    rows: Iterator[PlanRow], train: _TrainRows, *, run_seed: int, stage: str, shard_size: int
) -> Iterator[pa.Table]:
    """Row groups of plan.parquet, of whole shards."""
    size = max(1, _GROUP_ROWS // shard_size) * shard_size
    start = 0
    while len(window := np.fromiter(((row.row, row.draw) for row in islice(rows, _GROUPS_IN_WINDOW * size)), _PICKED)):
        order = np.argsort(window["row"])
        found, place = train.pick(window["row"][order]), np.argsort(order)
        for first in range(0, len(window), size):
            group = slice(first, first + size)
            picked, draws = found.take(pa.array(place[group])), window["draw"][group]
            named = zip(picked["sample_id"].to_pylist(), draws.tolist(), strict=True)
            seeds = [image_seed(run_seed, stage, name, draw) for name, draw in named]
            positions = np.arange(start, start + len(draws))
            columns = [
                positions, picked["sample_id"], picked["prompt_hash"], draws, np.array(seeds, np.uint64),
                (positions // shard_size).astype(np.int32), *(picked[field.name] for field in train.sizes),
            ]  # fmt: skip
            yield pa.table(columns, schema=train.planned)
            start += len(draws)


def _commit_rows(artifact: Path, schema: pa.Schema, tables: Iterator[pa.Table], identity: Mapping[str, Any]) -> None:
    def write(path: Path) -> None:
        with pq.ParquetWriter(path, schema, use_dictionary=False, write_page_checksum=True) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=len(table))

    commit(artifact, write, kind="plan-rows", digest=content_digest, identity=identity)


def _last_shard_of(file: pq.ParquetFile) -> Callable[[int], int]:
    """Number of the last shard in a row group, from the footer."""
    column = PLAN_ROWS.get_field_index("shard")
    return lambda group: file.metadata.row_group(group).column(column).statistics.max


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
