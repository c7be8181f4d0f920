from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin.core import schema
from spin.core.errors import ArtifactError
from spin.core.schema import IMAGE_TYPE, content_digest, tensor_column, tensor_field, write_table
from spin.core.tensor_rows import open_tensors

SHAPE = (4, 3, 5)


def values(rows: int, seed: int = 0, shape: Sequence[int] = SHAPE) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, *shape)).astype(np.float32)


def table(tensors: npt.NDArray[np.float32], other: npt.NDArray[np.float32] | None = None) -> pa.Table:
    """Beside the tensors what real files have: a name, a second tensor, a picture."""
    rows = len(tensors)
    other = values(rows, 9) if other is None else other
    fields = [
        pa.field("image", IMAGE_TYPE), pa.field("id", pa.string()),
        tensor_field("one", tensors.shape[1:], "float32"), tensor_field("two", other.shape[1:], "float32"),
    ]  # fmt: skip
    images = pa.array([{"bytes": os.urandom(30), "path": None} for _ in range(rows)], IMAGE_TYPE)
    columns = [images, pa.array([str(i) for i in range(rows)]), tensor_column(tensors), tensor_column(other)]
    return pa.table(columns, schema=pa.schema(fields))


@pytest.mark.parametrize("rows_in_group", [None, 7, 1])
def test_rows_are_read_one_by_one_from_several_files(tmp_path: Path, rows_in_group: int | None) -> None:
    parts = [values(rows, seed) for seed, rows in enumerate((20, 1, 33))]
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        write_table(path, table(part), row_group_size=rows_in_group)
    found, whole = open_tensors(paths, "one"), np.concatenate(parts)
    assert found.shape == (54, *SHAPE)
    assert len(found) == 54
    for rows in ([0], [53, 0, 20, 21, 19, 21], list(range(54)), []):
        assert np.array_equal(found[rows], whole[rows])
    assert [file for file in found.files if not isinstance(file, Path)] == []


def test_a_part_of_a_row_is_read_alone(tmp_path: Path) -> None:
    tensors = values(20)
    write_table(tmp_path / "a.parquet", table(tensors), row_group_size=6)
    found = open_tensors([tmp_path / "a.parquet"], "one")
    rows, parts = [7, 2, 19], np.array([0, 3, 2])
    assert np.array_equal(found[rows, parts], tensors[rows, parts])


@pytest.mark.parametrize("layout", ["snappy", "pages"])
def test_files_of_another_layout_give_the_same_rows(tmp_path: Path, layout: str) -> None:
    """As earlier versions wrote them: packed, or in many pages."""
    tensors, path = values(300), tmp_path / "a.parquet"
    options: dict[str, Any] = {"snappy": {}, "pages": {"compression": "none", "data_page_size": 1000}}[layout]
    pq.write_table(table(tensors), path, use_dictionary=False, row_group_size=90, write_batch_size=16, **options)
    found = open_tensors([path], "one")
    rows = [299, 0, 90, 89]
    assert np.array_equal(found[rows], tensors[rows])
    assert np.array_equal(found[rows, [1, 2, 3, 0]], tensors[rows, [1, 2, 3, 0]])
    assert not isinstance(found.files[0], Path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_layout_changes_neither_values_nor_digest(tmp_path: Path) -> None:
    rows = table(values(300))
    pq.write_table(rows, tmp_path / "old.parquet", use_dictionary=False)
    write_table(tmp_path / "new.parquet", rows)
    assert pq.read_table(tmp_path / "old.parquet").equals(pq.read_table(tmp_path / "new.parquet"))
    assert content_digest(tmp_path / "old.parquet") == content_digest(tmp_path / "new.parquet")


def test_row_groups_are_bounded_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_GROUP_BYTES", 10 * 2 * 4 * 60)
    write_table(tmp_path / "a.parquet", table(values(25)))
    assert [pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(n).num_rows for n in range(3)] == [10, 10, 5]


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", table(values(0)))
    assert open_tensors([tmp_path / "a.parquet"], "one").shape == (0, *SHAPE)
    assert open_tensors([tmp_path / "a.parquet"], "one")[[]].shape == (0, *SHAPE)


def test_a_file_that_goes_away_or_ends_early_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, table(values(20)))
    found = open_tensors([path], "two")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ArtifactError, match=r"a\.parquet: ends before its rows do; run again"):
        found[[19]]
    path.unlink()
    with pytest.raises(ArtifactError, match=r"a\.parquet: file is missing"):
        found[[0]]
    with pytest.raises(ArtifactError, match=r"a\.parquet: file is missing"):
        open_tensors([path], "two")


def test_a_row_that_is_not_there_is_our_own_mistake(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", table(values(3)))
    for row in (3, -1):
        with pytest.raises(AssertionError):
            open_tensors([tmp_path / "a.parquet"], "one")[[row]]


def test_files_that_come_later_are_read_behind_the_others(tmp_path: Path) -> None:
    """Packed ones too, as they were before this layout: their bytes are kept in a nameless file."""
    parts = [values(rows, seed) for seed, rows in enumerate((20, 1, 33))]
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path, part in zip(paths[:2], parts[:2], strict=True):
        write_table(path, table(part), row_group_size=7)
    pq.write_table(table(parts[2]), paths[2])
    one, *more = (open_tensors([path], "one") for path in paths)
    found, whole = one, np.concatenate(parts)
    for behind in more:
        found = found.and_then(behind)
    assert found.shape == (54, *SHAPE)
    for rows in ([0], [53, 0, 20, 21, 19, 21], list(range(54)), []):
        assert np.array_equal(found[rows], whole[rows])
    assert np.array_equal(found[[21, 0], [1, 2]], whole[[21, 0], [1, 2]])
    assert len(one) == 20  # as it was
