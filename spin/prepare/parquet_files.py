"""Parquet files that hold pictures and captions: one file, a folder of them, or a glob."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import IterableDataset

from spin.core.errors import DataError
from spin.core.rejecting import Rejected
from spin.prepare.candidates import MISSING_FILE, Candidate
from spin.prepare.columns import require_column

_ROWS_AT_ONCE: Final = 16  # a row can be megabytes
_TEXT_TYPES: Final = frozenset({pa.string(), pa.large_string(), pa.string_view(), pa.null()})
_BYTES_TYPES: Final = frozenset({pa.binary(), pa.large_binary(), pa.binary_view()})


def open_parquet_files(
    path: Path, *, image_column: str, caption_column: str, loser_column: str | None = None
) -> Callable[[], Iterator[Candidate]]:
    """Check all files at the door; the result reads their rows, as often as it is called."""
    files = _find(path)
    for file in files:
        schema = _read_schema(file)
        require_column(image_column, schema.names, key="data.image_column", where=file)
        require_column(caption_column, schema.names, key="data.caption_column", where=file)
        _check_pictures(schema, file, image_column, key="data.image_column")
        _check_text(schema, file, caption_column)
        if loser_column is not None:
            require_column(loser_column, schema.names, key="data.loser_column", where=file)
            _check_pictures(schema, file, loser_column, key="data.loser_column")
    root = path if path.is_dir() else Path(files[0]).parent if len(files) == 1 else _fixed_part(path)
    return partial(_rows, root, files, image_column, caption_column, loser_column)


def _find(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(file for file in path.rglob("*.parquet") if file.is_file())
        problem = "holds no .parquet files"
    else:
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())  # noqa: PTH207
        problem = "no file matches" if glob.has_magic(str(path)) else "no such file or folder"
    if not found:
        raise DataError(problem, where=str(path), fix="set data.path to a Parquet file, a folder of them or a glob")
    return found


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob before its first wildcard."""
    fixed = [part for part in pattern.parents if not glob.has_magic(str(part))]
    return fixed[0]


def _read_schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _check_pictures(schema: pa.Schema, file: Path, column: str, *, key: str) -> None:
    image = schema.field(column).type
    if not _holds_bytes(image):
        fix = f"set {key} to a column of picture bytes or of struct{{bytes, path}}"
        raise DataError(f"column {column!r} holds {image}, not pictures", where=str(file), fix=fix)


def _check_text(schema: pa.Schema, file: Path, caption_column: str) -> None:
    caption = schema.field(caption_column).type
    text = caption.value_type if pa.types.is_dictionary(caption) else caption
    if text not in _TEXT_TYPES:
        fix = "set data.caption_column to a column of text"
        raise DataError(f"column {caption_column!r} holds {caption}, not text", where=str(file), fix=fix)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and kind.field("bytes").type in _BYTES_TYPES
    return kind in _BYTES_TYPES


def _rows(
    root: Path, files: Sequence[Path], image_column: str, caption_column: str, loser_column: str | None
) -> Iterator[Candidate]:
    columns = [image_column, caption_column, *([] if loser_column is None else [loser_column])]
    for file in files:
        name = file.relative_to(root).as_posix()
        for number, record in enumerate(_records(file, columns), 1):
            read = partial(_picture_bytes, record[image_column])
            loser = None if loser_column is None else partial(_picture_bytes, record[loser_column])
            yield Candidate(f"{name}:{number}", read, record[caption_column], loser)


def _records(file: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows with their pictures as bytes.

    `load_dataset("parquet", ...)` would ask s3.amazonaws.com to count a download; the streaming reader
    below it stays on this machine, and writes nothing but perhaps below its cache folder.
    """
    with tempfile.TemporaryDirectory(prefix="spin-prepare-") as cache:
        try:
            rows = IterableDataset.from_parquet(str(file), columns=columns, batch_size=_ROWS_AT_ONCE, cache_dir=cache)
            for table in rows.with_format("arrow").iter(_ROWS_AT_ONCE):
                yield from table.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from error


def _picture_bytes(value: object) -> bytes:
    cell: dict[str, Any] = value if isinstance(value, dict) else {"bytes": value}
    if not cell["bytes"]:
        path = cell.get("path")
        raise Rejected(MISSING_FILE, f"no bytes, only the path {path}" if path else "no picture in the row")
    return bytes(cell["bytes"])


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0]
    return DataError(f"cannot be read as Parquet: {reason}", where=str(file), fix="write it again, or take it away")
