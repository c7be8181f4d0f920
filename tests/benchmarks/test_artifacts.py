from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import artifacts
from benchmarks.artifacts import (
    measure,
    ratio,
    read_lists,
    read_ours,
    read_rows,
    rounds,
    table_of,
    write_lists,
    write_ours,
)


@pytest.fixture
def latents() -> artifacts.Latents:
    return np.random.default_rng(0).standard_normal((130, *artifacts.SHAPE), np.float32).astype(np.float16)


def test_both_ways_give_back_what_was_written(tmp_path: Path, latents: artifacts.Latents) -> None:
    write_ours(tmp_path / "ours", latents)
    write_lists(tmp_path / "lists", latents)
    np.testing.assert_array_equal(read_ours(tmp_path / "ours"), latents)
    np.testing.assert_array_equal(read_lists(tmp_path / "lists"), latents)
    order = np.arange(130)[::-1].copy()
    np.testing.assert_array_equal(read_rows(tmp_path / "ours", order), latents[1::-1])  # the last batch: two rows


def test_every_way_is_measured_once_a_round_in_turn() -> None:
    met: list[str] = []
    seconds = rounds({name: lambda name=name: met.append(name) for name in "ab"}, 3)
    assert met == list("ababab")
    assert {name: len(spent) for name, spent in seconds.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_taken_round_by_round_and_its_interval_holds_it() -> None:
    found = ratio([8.0, 20.0, 10.0], [1.0, 2.0, 1.0])  # 8, 10, 10
    assert found.median == 10.0
    assert (found.low, found.high) == (8.0, 10.0)


def test_the_table_tells_rates_and_how_many_times_the_list_columns(tmp_path: Path, latents: artifacts.Latents) -> None:
    seconds = measure(tmp_path, latents, 2)
    assert [len(spent) for spent in seconds.values()] == [2] * 5
    lines = table_of({"read, list column": [2.0, 2.0], "read, ours": [0.5, 0.5]}, 4_000_000)
    assert lines[2:] == [
        "| read, list column | 2 | 2 | 2 | 1.0 (1.0 to 1.0) |",
        "| read, ours | 8 | 8 | 8 | 4.0 (4.0 to 4.0) |",
    ]


def test_the_file_holds_the_raw_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["artifacts", "--rows", "8", "--rounds", "2", "--json", str(kept)])
    artifacts.main()
    found = json.loads(kept.read_text())
    assert {len(spent) for spent in found["seconds"].values()} == {2}
    assert found["bytes"] == 8 * 32768
    assert "| write, ours |" in capsys.readouterr().out
