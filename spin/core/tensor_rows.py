"""Tensors of Parquet files, read row by row: a million rows of latents take 131 GB, a batch of them little.

`schema.write_table` writes a tensor column uncompressed and without encoding, a page for each row group. A row's bytes
then stand at a place that the footer tells, and are read by one call; nothing is decoded, nothing stays mapped.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from spin.core.errors import ArtifactError
from spin.core.schema import read_tensors, reading, tensor_layout

_PLAIN: Final = frozenset({"PLAIN", "RLE"})  # RLE is that of the levels, which say that no row is null
_HEADER_BYTES: Final = 64  # of a page header as far as it is read
_FIELD: Final = 0x15  # thrift's compact protocol: the next field, a varint


@dataclass(frozen=True)
class TensorRows:
    """(N, ...) array on disk; indexing by row numbers reads these rows.

    `rows[[7, 2]]` gives (2, ...); `rows[[7, 2], [0, 5]]`, as in numpy, part 0 of row 7 and part 5 of row 2.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    files: tuple[Path | BinaryIO, ...]
    file_of: npt.NDArray[np.int32]  # of each block of neighbouring rows
    starts: npt.NDArray[np.int64]  # its first row
    offsets: npt.NDArray[np.int64]  # where in the file that row begins

    def __len__(self) -> int:
        return self.shape[0]

    def and_then(self, more: TensorRows) -> TensorRows:
        """These rows, and behind them those of `more`."""
        assert self.shape[1:] == more.shape[1:]
        assert self.dtype == more.dtype
        return TensorRows(
            (len(self) + len(more), *self.shape[1:]),
            self.dtype,
            (*self.files, *more.files),
            np.concatenate([self.file_of, more.file_of + np.int32(len(self.files))]),
            np.concatenate([self.starts, more.starts + len(self)]),
            np.concatenate([self.offsets, more.offsets]),
        )

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        rows, parts = key if isinstance(key, tuple) else (key, None)
        rows = np.asarray(rows, np.int64)
        assert not len(rows) or 0 <= rows.min() <= rows.max() < len(self), "a row that is not there"
        shape = self.shape[1:] if parts is None else self.shape[2:]
        found = np.empty((len(rows), *shape), self.dtype)
        width, part_width = (int(np.prod(s)) * self.dtype.itemsize for s in (self.shape[1:], shape))
        block = np.searchsorted(self.starts, rows, side="right") - 1
        places = self.offsets[block] + (rows - self.starts[block]) * width
        if parts is not None:
            places += np.asarray(parts, np.int64) * part_width
        for number in np.unique(self.file_of[block]):
            with _opened(self.files[number]) as descriptor:
                for row in np.flatnonzero(self.file_of[block] == number):
                    if os.preadv(descriptor, [found[row].reshape(-1).view(np.uint8)], places[row]) != part_width:
                        raise ArtifactError(
                            "ends before its rows do", where=str(self.files[number]), fix="run again; it is made again"
                        )
        return found


def open_tensors(paths: Sequence[Path], name: str) -> TensorRows:
    """A tensor column of files that are verified by now, one behind the other."""
    files: list[Path | BinaryIO] = []
    file_of: list[int] = []
    starts: list[int] = []
    offsets: list[int] = []
    count = 0
    for path in paths:
        with reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
            shape, dtype = tensor_layout(file.schema_arrow.field(name))
            blocks = _blocks(path, file, name)
            files.append(path if blocks is not None else _unpacked(path, file, name))
        for rows, offset in blocks or [(file.metadata.num_rows, 0)]:
            file_of.append(len(files) - 1)
            starts.append(count)
            offsets.append(offset)
            count += rows
    arrays = np.array(file_of, np.int32), np.array(starts, np.int64), np.array(offsets, np.int64)
    return TensorRows((count, *shape), np.dtype(dtype), tuple(files), *arrays)


def _blocks(path: Path, file: pq.ParquetFile, name: str) -> list[tuple[int, int]] | None:
    """Rows and place of each row group's values; None where they are packed, as files before this layout are."""
    width = file.schema_arrow.field(name).type.byte_width
    column = file.schema_arrow.names.index(name)
    blocks = []
    with path.open("rb") as stream:
        for number in range(file.metadata.num_row_groups):
            chunk = _leaf(file.metadata.row_group(number), name, column)
            if chunk.compression != "UNCOMPRESSED" or not _PLAIN.issuperset(chunk.encodings):
                return None
            stream.seek(chunk.data_page_offset)
            values = chunk.num_values * width
            if not chunk.num_values:
                continue
            if _page_bytes(stream.read(_HEADER_BYTES)) < values:  # several pages
                return None
            blocks.append((chunk.num_values, chunk.data_page_offset + chunk.total_compressed_size - values))
    return blocks


def _leaf(group: Any, name: str, column: int) -> Any:
    """The column's chunk; columns before it may have several leaves."""
    found = (group.column(number) for number in range(column, group.num_columns))
    return next(chunk for chunk in found if chunk.path_in_schema == name)


def _page_bytes(header: bytes) -> int:
    """Bytes of the page behind a page header: its third field, behind the kind and the unpacked size."""
    place, values = 0, []
    for _ in range(3):
        if header[place] != _FIELD:
            return 0
        place, value = _varint(header, place + 1)
        values.append(value)
    return values[2] // 2  # zigzag, of a number that is not negative


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return place, value


def _unpacked(path: Path, file: pq.ParquetFile, name: str) -> BinaryIO:
    """The column's bytes in a nameless file beside the artifact."""
    scratch = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  it lives as long as the rows are read
    for number in range(file.metadata.num_row_groups):
        scratch.write(np.ascontiguousarray(read_tensors(file.read_row_group(number, columns=[name]), name)).data)
    scratch.flush()
    return cast(BinaryIO, scratch)


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[int]:
    if not isinstance(file, Path):
        yield file.fileno()
        return
    with reading(file):
        descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
