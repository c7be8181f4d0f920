"""Parquet schemas and how they are written and read.

Tensors are `fixed_size_binary` columns with shape and dtype in the field's metadata (13-16 x faster than
list columns); images use the `datasets` Image feature, so `load_dataset("parquet", ...)` opens them.
No time, host or attempt stands in a file: equal work gives equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.errors import ArtifactError

IMAGE_TYPE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
POSTERIOR: Final = ("latent_mean", "latent_log_variance")  # columns of an encoded picture
MIRRORED: Final = "_mirrored"  # behind their names: of the mirrored picture
UNSAFE: Final = "unsafe"  # column of what a safety checker said of a picture; there only where one looked
LATENT_SIZES: Final = ("latent_height", "latent_width")  # beside latents of several sizes, see `spin.core.buckets`
_DIGEST_MODULUS: Final = 1 << 256
_GROUP_ROWS: Final = 8192  # of names and captions; 5 MB
_GROUP_BYTES: Final = 1 << 25  # of tensors in one row group
_READ_BYTES: Final = 1 << 18  # else pyarrow holds a whole column of a row group
_DIGEST_ROWS: Final = 128  # in memory at once; a row of SDXL latents takes 512 KiB

PROMPTS: Final = pa.schema(
    [
        ("sample_id", pa.string()),  # hash of image bytes and caption: the row's identity
        ("caption", pa.string()),
        ("prompt_hash", pa.string()),
        ("split", pa.string()),  # train, validation or test
        ("origin", pa.string()),  # file and row the picture came from
    ]
)
SIZES: Final = (pa.field("height", pa.int32()), pa.field("width", pa.int32()))  # in pixels; only where they differ
QUARANTINE: Final = pa.schema([("origin", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
PLAN_ROWS: Final = pa.schema(
    [
        ("position", pa.int64()),  # order of first use in training
        ("sample_id", pa.string()),
        ("prompt_hash", pa.string()),
        ("draw", pa.int32()),
        ("seed", pa.uint64()),
        ("shard", pa.int32()),
    ]
)
PROMPT_SET: Final = pa.schema(
    [
        ("prompt_id", pa.string()),  # a hash of the normalised prompt: the same prompt has one id in every benchmark
        ("prompt", pa.string()),
        ("category", pa.string()),  # PartiPrompts' category, HPSv2's style, the paper's figure; null where none is
        ("challenge", pa.string()),  # PartiPrompts only
        ("tokens", pa.int32()),  # with start and end token; null where nobody counted
        ("truncated", pa.bool_()),  # the text encoder sees only the first 77 tokens; null where nobody counted
        ("origin", pa.string()),  # file and row it came from
    ]
)
SCORES: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("category", pa.string()),  # of the benchmark (PartiPrompts' category, HPSv2's style); null where it has none
        ("challenge", pa.string()),  # PartiPrompts only
        ("seed", pa.uint64()),  # of the one generator that all pictures of the prompt come from
        ("draw", pa.int32()),  # number of the picture among those of its prompt
        ("checkpoint", pa.string()),  # digest of the model; data-... for real images
        ("scorer", pa.string()),
        ("version", pa.string()),  # digest of the scorer's weights
        ("settings", pa.string()),  # JSON: what else moves this scorer's numbers, such as hps_version
        ("score", pa.float64()),
    ]
)
SAFETY: Final = pa.schema([("prompt_id", pa.string()), ("draw", pa.int32()), (UNSAFE, pa.bool_())])
SET_METRICS: Final = pa.schema([("metric", pa.string()), ("value", pa.float64()), ("images", pa.int64())])
DENOISING: Final = pa.schema(
    [("prompt_id", pa.string()), ("draw", pa.int32()), ("timestep", pa.int32()), ("error", pa.float64())]
)
TRAINING_LOG: Final = pa.schema(
    [
        ("step", pa.int32()),  # optimizer step, from 1
        ("loss", pa.float64()),
        ("accuracy", pa.float64()),  # implicit accuracy: share of pairs with margin > 0; null for sft
        ("margin", pa.float64()),  # mean margin u; null for sft
        ("real_mse", pa.float64()),
        ("generated_mse", pa.float64()),
        ("real_mse_opponent", pa.float64()),
        ("generated_mse_opponent", pa.float64()),
        ("gradient_norm", pa.float64()),
        ("lr", pa.float64()),
        ("jensen_gap", pa.float64()),  # approximate minus exact loss on the same draws; null for one time step a pair
        ("loser_scale", pa.float64()),  # mean factor of the loser's gradient; null without a safeguard
    ]
)
# Kept apart from the log, which must not differ between equal runs.
TIMING: Final = pa.schema(
    [
        ("step", pa.int32()),
        ("seconds", pa.float64()),
        ("device_seconds", pa.float64()),  # on a CPU what the process worked, whatever else ran there
        ("images_per_second", pa.float64()),
        ("stall_seconds", pa.float64()),  # of the seconds: that the step waited for what it reads; null of older steps
    ]
)
HELD_OUT_LOG: Final = pa.schema(
    [("step", pa.int32()), ("timestep", pa.int32()), ("error", pa.float64()), ("error_start", pa.float64())]
)


def tensor_field(name: str, shape: Sequence[int], dtype: str) -> pa.Field:
    """A column of equally shaped tensors, e.g. tensor_field("latent_mean", (4, 64, 64), "float32")."""
    width = int(np.prod(shape)) * np.dtype(dtype).itemsize
    metadata = {"shape": json.dumps([int(size) for size in shape]), "dtype": dtype}
    return pa.field(name, pa.binary(width), metadata=metadata)


def tensor_column(values: npt.NDArray[Any]) -> pa.Array:
    """(N, ...) array -> fixed_size_binary column of N rows, without a copy."""
    packed = np.ascontiguousarray(values)
    width = int(np.prod(packed.shape[1:])) * packed.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(packed), [None, pa.py_buffer(packed)])


def read_tensors(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """The rows of a tensor column as one array (N, *shape)."""
    field = table.schema.field(name)
    shape, dtype = tensor_layout(field)
    column = table.column(name).combine_chunks()
    if not len(column):
        return np.empty((0, *shape), np.dtype(dtype))
    start = column.offset * field.type.byte_width
    flat = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * field.type.byte_width]
    return flat.view(np.dtype(dtype)).reshape(len(column), *shape)


def tensor_layout(field: pa.Field) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a tensor column's rows."""
    return tuple(json.loads(field.metadata[b"shape"])), field.metadata[b"dtype"].decode()


def image_schema(fields: Sequence[pa.Field], image_columns: Sequence[str]) -> pa.Schema:
    """A schema whose image columns `datasets` decodes as pictures."""
    names = {field.name: {"_type": "Image"} for field in fields if field.name in image_columns}
    plain = {field.name: {"_type": "Value", "dtype": str(field.type)} for field in fields if field.name not in names}
    info = {"info": {"features": {**plain, **names}}}
    return pa.schema(fields, metadata={"huggingface": json.dumps(info, sort_keys=True)})


def write_table(path: Path, table: pa.Table, *, row_group_size: int | None = None) -> None:
    """Write Parquet without dictionary and with page checksums; tensors so that `open_tensors` finds their rows."""
    size = row_group_size or rows_per_group(table.schema)
    pq.write_table(
        table, path, use_dictionary=False, write_page_checksum=True, row_group_size=size, **writing(table.schema)
    )


def writing(schema: pa.Schema) -> dict[str, Any]:
    """How pyarrow writes a table with tensors: these as they are, a page for each row group; else nothing special.

    A page that is not packed can be read row by row; the noise of latents hardly packs (random normals: 0.01 %).
    """
    tensors = [field.name for field in schema if is_tensor(field)]
    if not tensors:
        return {}
    packed = {name: "none" if name in tensors else "snappy" for name in schema.names}
    return {"compression": packed, "data_page_size": _GROUP_BYTES * 8}


def rows_per_group(schema: pa.Schema) -> int | None:
    """Rows of a row group whose tensors take 32 MiB together, 1024 at most; None where there are none."""
    width = sum(field.type.byte_width for field in schema if is_tensor(field))
    return min(max(1, _GROUP_BYTES // width), 1024) if width else None


def is_tensor(field: pa.Field) -> bool:
    """Whether a column holds tensors of one shape."""
    return field.metadata is not None and b"shape" in field.metadata


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as they come, in row groups of which one is in memory."""
    left = iter(rows)
    with pq.ParquetWriter(path, schema, use_dictionary=False, write_page_checksum=True) as writer:
        group = [dict(row) for row in islice(left, _GROUP_ROWS)]
        writer.write_table(pa.Table.from_pylist(group, schema=schema))  # an empty file has its schema too
        while group := [dict(row) for row in islice(left, _GROUP_ROWS)]:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file; page checksums verified, errors in one line."""
    with reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(columns=columns)
        return table if columns is None else table.select(columns)


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """A few thousand rows at a time, of which none stays in memory."""
    with reading(path), pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES) as file:
        yield from file.iter_batches(_GROUP_ROWS, columns=list(columns), use_threads=False)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What pyarrow says of a file that it cannot read, in one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactError("file is missing", where=str(path), fix="run again; it is made again") from error
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"cannot be read as Parquet: {reason}", where=str(path), fix="run again; it is made again"
        ) from error


def content_digest(path: Path) -> str:
    """Digest of a table's rows that does not depend on their order or on the split into files.

    The sum modulo 2**256 of the rows' hashes: digests of shards add up to the digest of the whole.
    """
    total = 0
    for row in _encoded_rows(path):
        total = (total + int.from_bytes(hashlib.sha256(row).digest(), "big")) % _DIGEST_MODULUS
    return f"{total:064x}"


def add_digests(digests: Iterable[str]) -> str:
    """Digest of the union of tables from their digests."""
    return f"{sum(int(digest, 16) for digest in digests) % _DIGEST_MODULUS:064x}"


def _encoded_rows(path: Path) -> Iterator[bytes]:
    # pyarrow's defaults keep every row group that was read, and hold whole columns of one in several threads.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES) as file:
        for batch in file.iter_batches(batch_size=_DIGEST_ROWS, use_threads=False):
            named = sorted(zip(batch.schema.names, batch.columns, strict=True), key=lambda pair: pair[0])
            start = b"d%d:" % (2 * len(named))  # a row is the dict of its columns
            for values in zip(*(_encoded_column(name, column) for name, column in named), strict=True):
                yield start + b"".join(values)


def _encoded_column(name: str, column: pa.Array) -> list[bytes]:
    """Each value of a column behind the column's name; many rows are hashed, so plain values take no call each."""
    key, values = _encode(name), column.to_pylist()
    if isinstance(next((value for value in values if value is not None), None), bytes | dict):
        return [key + _encode(value) for value in values]
    texts = [text.encode() for text in map(repr, values)]
    return [b"%br%d:%b" % (key, len(text), text) for text in texts]


def _encode(value: Any) -> bytes:
    """Bytes of a value, each part with its kind and length, so that no two values share them."""
    if isinstance(value, bytes):
        return b"b%d:" % len(value) + value
    if isinstance(value, dict):
        parts = [_encode(part) for key in sorted(value) for part in (key, value[key])]
        return b"d%d:" % len(parts) + b"".join(parts)
    text = repr(value).encode()
    return b"r%d:" % len(text) + text
