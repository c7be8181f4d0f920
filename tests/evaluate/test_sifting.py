from __future__ import annotations

from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin.core.plan import prompt_hash
from spin.core.schema import PROMPT_SET
from spin.evaluate.prompts import PromptRecord
from spin.evaluate.sifting import CountTokens, Row, RowFile, SeenHashes, Sieve


def records(*prompts: object) -> list[PromptRecord]:
    return [PromptRecord(f"f.txt:{number}", prompt, column="prompt") for number, prompt in enumerate(prompts, 1)]


def sift(
    *prompts: object, limit: int | None = None, count_tokens: CountTokens | None = None
) -> tuple[Sieve, list[Row], list[Row]]:
    """The sieve afterwards, the good rows and those set aside."""
    aside: list[Row] = []
    sieve = Sieve(aside.extend, count_tokens, limit)
    return sieve, list(chain.from_iterable(sieve.sift(records(*prompts)))), aside


def test_the_first_of_equal_prompts_stays_and_the_others_are_counted() -> None:
    sieve, good, aside = sift("a cat", "caf\u00e9", "a  cat ", "A cat", "cafe\u0301")
    assert [(row["prompt"], row["origin"]) for row in good] == [
        ("a cat", "f.txt:1"), ("caf\u00e9", "f.txt:2"), ("A cat", "f.txt:4"),
    ]  # fmt: skip
    assert (sieve.read, sieve.kept, sieve.duplicates, dict(sieve.bad)) == (5, 3, 2, {})
    assert [(row["origin"], row["reason"]) for row in aside] == [("f.txt:3", "duplicate"), ("f.txt:5", "duplicate")]
    assert prompt_hash("a cat") in aside[0]["detail"]


def test_a_bad_row_is_set_aside_with_its_file_its_row_and_its_column() -> None:
    sieve, good, aside = sift("a cat", "", "a\x00b", None)
    assert len(good) == 1
    assert dict(sieve.bad) == {"empty": 1, "control character": 1, "missing": 1}
    assert aside[1]["origin"] == "f.txt:3"
    assert aside[1]["detail"].startswith("column 'prompt': U+0000 at character 2")
    assert sieve.first_bad == "f.txt:2: empty, column 'prompt': no text"


def test_equal_prompts_are_found_across_batches() -> None:
    prompts = [f"prompt {number % 5000}" for number in range(10_000)]
    sieve, good, _ = sift(*prompts)
    assert [row["prompt"] for row in good] == prompts[:5000]
    assert sieve.duplicates == 5000


def test_a_limit_ends_reading_with_the_last_good_row_it_asks_for() -> None:
    sieve, good, aside = sift("a", "", "a", "b", "", "c", limit=2)
    assert [row["prompt"] for row in good] == ["a", "b"]
    assert (sieve.read, len(aside)) == (4, 2)


def test_a_limit_leaves_the_rest_of_a_source_unread() -> None:
    source = iter(records(*map(str, range(20_000))))
    sieve = Sieve(lambda rows: None, None, 10)
    assert sum(len(rows) for rows in sieve.sift(source)) == 10
    assert len(list(source)) > 10_000


def test_long_prompts_are_kept_and_marked() -> None:
    asked: list[int] = []

    def count(prompts: list[str]) -> list[int]:
        asked.append(len(prompts))
        return [len(prompt) for prompt in prompts]

    sieve, good, _ = sift("x" * 77, "y" * 78, "z", count_tokens=count)
    assert [(row["tokens"], row["truncated"]) for row in good] == [(77, False), (78, True), (1, False)]
    assert (sieve.truncated, asked) == (1, [3])


def test_nobody_is_asked_for_tokens_of_nothing_and_without_a_counter_they_are_unknown() -> None:
    _, good, _ = sift("a")
    assert (good[0]["tokens"], good[0]["truncated"]) == (None, None)

    def count(prompts: list[str]) -> list[int]:
        raise AssertionError

    assert sift("", count_tokens=count)[1] == []


def test_a_counter_that_loses_a_prompt_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="shorter"):
        sift("a", "b", count_tokens=lambda prompts: [1])


def test_seen_hashes_agree_with_a_set() -> None:
    seen, known = SeenHashes(), set()
    for start in range(0, 3000, 300):
        batch = [prompt_hash(str((start + number) * 7 % 1000)) for number in range(500)]
        expected = []
        for value in batch:
            expected.append(value not in known)
            known.add(value)
        assert seen.add(batch) == expected
    assert seen.add([]) == []


def test_hashes_that_end_in_zero_bytes_are_told_apart() -> None:
    seen = SeenHashes()
    ends = ["00" * 16, "00" * 15 + "01", "01" + "00" * 15]
    assert seen.add(ends) == [True] * 3
    assert seen.add([*ends, "01" * 16]) == [False, False, False, True]


def test_a_file_has_the_same_bytes_however_its_rows_came(tmp_path: Path) -> None:
    rows = [dict.fromkeys(PROMPT_SET.names) | {"prompt": str(number)} for number in range(20_000)]
    for name, size in (("one", 20_000), ("many", 77)):
        with RowFile(tmp_path / name, PROMPT_SET) as file:
            for start in range(0, len(rows), size):
                file.add(rows[start : start + size])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()
    written = pq.ParquetFile(tmp_path / "one")
    assert [written.metadata.row_group(n).num_rows for n in range(3)] == [8192, 8192, 3616]
    assert written.schema_arrow.equals(PROMPT_SET)


def test_a_file_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    with RowFile(tmp_path / "none.parquet", PROMPT_SET) as file:
        file.add([])
    assert pq.read_table(tmp_path / "none.parquet") == pa.Table.from_pylist([], PROMPT_SET)
