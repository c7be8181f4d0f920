from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin.core.errors import ArtifactError
from spin.core.schema import read_table, write_table
from spin.evaluate.held_out import read_held_out, real_pictures, take_rows
from tests.evaluate.conftest import Ask
from tests.world import World


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """Ten rows in row groups of three; row i holds 2000 letters, the i-th of the alphabet."""
    path = tmp_path / "numbers.parquet"
    write_table(path, pa.table({"letters": [letter * 2000 for letter in "abcdefghij"]}), row_group_size=3)
    return path


@pytest.mark.parametrize("positions", [[0], [9], [2, 3], [7, 1, 4], list(range(10)), [9, 0, 9]])
def test_rows_come_in_the_order_asked_for(numbers: Path, positions: list[int]) -> None:
    found = take_rows(numbers, positions, "letters")["letters"].to_pylist()
    assert [text[0] for text in found] == ["abcdefghij"[i] for i in positions]
    assert {len(text) for text in found} == {2000}


def test_row_groups_without_a_wanted_row_stay_unread(numbers: Path) -> None:
    column = pq.ParquetFile(numbers).metadata.row_group(1).column(0)  # rows 3, 4 and 5
    data, last = numbers.read_bytes(), column.data_page_offset + column.total_compressed_size - 1
    numbers.write_bytes(data[:last] + bytes([data[last] ^ 1]) + data[last + 1 :])
    assert [text[0] for text in take_rows(numbers, [0, 8], "letters")["letters"].to_pylist()] == ["a", "i"]
    with pytest.raises(ArtifactError, match=r"numbers\.parquet: cannot be read as Parquet"):
        take_rows(numbers, [0, 4], "letters")


def test_real_pictures_are_those_of_their_rows(ask: Ask, world: World) -> None:
    request = ask(max_prompts=200)
    rows = read_held_out(request)
    table = {row["sample_id"]: row for row in read_table(world.cache.held_out_images).to_pylist()}
    assert [table[row.prompt_id]["caption"] for row in rows] == [row.prompt for row in rows]
    picked = rows[120:] + rows[:3]
    assert real_pictures(request, picked) == [table[row.prompt_id]["image"]["bytes"] for row in picked]
