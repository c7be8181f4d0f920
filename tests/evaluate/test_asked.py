from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin.core.errors import ArtifactError, DataError
from spin.core.schema import PROMPT_SET, content_digest, read_table, write_rows, write_table
from spin.core.store import commit
from spin.evaluate.asked import pictures_of, read_prompts, real_pictures, take_rows
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
    rows = read_prompts(request)
    table = {row["sample_id"]: row for row in read_table(world.cache.held_out_images).to_pylist()}
    assert [table[row.prompt_id]["caption"] for row in rows] == [row.prompt for row in rows]
    picked = rows[120:] + rows[:3]
    assert real_pictures(request, picked) == [table[row.prompt_id]["image"]["bytes"] for row in picked]


def test_single_gives_some_prompts_several_pictures_for_their_diversity(ask: Ask) -> None:
    prompts = read_prompts(ask(diversity_prompts=2))
    assert [prompt.draws for prompt in prompts] == [3, 3, 1, 1, 1, 1]
    assert len({prompt.seed for prompt in prompts}) == 6
    assert [(p.asked.prompt_id, p.draw) for p in pictures_of(prompts[1:3])] == [
        (prompts[1].prompt_id, 0), (prompts[1].prompt_id, 1), (prompts[1].prompt_id, 2), (prompts[2].prompt_id, 0),
    ]  # fmt: skip


def test_best_of_n_seeds_every_prompt_with_the_same_number(ask: Ask) -> None:
    prompts = read_prompts(ask(protocol="best_of_n", images_per_prompt=5, seed=5775709))
    assert {(prompt.seed, prompt.draws) for prompt in prompts} == {(5775709, 5)}


def test_real_images_are_one_a_prompt_whatever_the_protocol(ask_data: Ask) -> None:
    for protocol in ("single", "best_of_n"):
        assert {prompt.draws for prompt in read_prompts(ask_data(protocol=protocol))} == {1}


def test_a_prompt_set_brings_categories_and_no_real_pictures(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "prompts.parquet"
    rows = [
        {"prompt_id": "a", "prompt": "a fox", "category": "Animals", "challenge": "Basic", "tokens": 4,
         "truncated": False, "origin": "x:1"},
        {"prompt_id": "b", "prompt": "a cat", "category": None, "challenge": None, "tokens": None, "truncated": None,
         "origin": "x:2"},
    ]  # fmt: skip
    commit(path, lambda target: write_rows(target, PROMPT_SET, rows), kind="prompts", digest=content_digest)
    found = read_prompts(ask(benchmark="mine", prompts=path, real=None))
    assert [(p.prompt_id, p.prompt, p.category, p.challenge, p.position) for p in found] == [
        ("a", "a fox", "Animals", "Basic", None), ("b", "a cat", None, None, None),
    ]  # fmt: skip


def test_a_split_without_rows_is_named(ask: Ask) -> None:
    with pytest.raises(DataError, match="no rows in split 'neither'"):
        read_prompts(ask(benchmark="neither"))
