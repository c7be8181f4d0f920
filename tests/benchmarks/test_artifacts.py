from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.artifacts import SHAPE, Latents, artifacts, read_lists, read_ours, read_rows, write_lists, write_ours
from benchmarks.profiles import TRIAL
from benchmarks.tables import table


@pytest.fixture
def latents() -> Latents:
    return np.random.default_rng(0).standard_normal((130, *SHAPE), np.float32).astype(np.float16)


def test_both_ways_give_back_what_was_written(tmp_path: Path, latents: Latents) -> None:
    write_ours(tmp_path / "ours", latents)
    write_lists(tmp_path / "lists", latents)
    np.testing.assert_array_equal(read_ours(tmp_path / "ours"), latents)
    np.testing.assert_array_equal(read_lists(tmp_path / "lists"), latents)
    order = np.arange(130)[::-1].copy()
    np.testing.assert_array_equal(read_rows(tmp_path / "ours", order), latents[1::-1])  # the last batch: two rows


def test_every_way_is_measured_and_its_values_are_those_that_were_written(tmp_path: Path) -> None:
    found = artifacts(TRIAL, tmp_path)
    assert {len(timed.seconds) for timed in found.timed} == {2 * TRIAL.rounds}
    assert [check.difference for check in found.checks] == [0.0, 0.0, 0.0]
    assert found.of("write, ours").units == pytest.approx(TRIAL.latents * 32768 / 1e6)


def test_writing_is_held_against_writing_and_reading_against_reading(tmp_path: Path) -> None:
    lines = table(artifacts(TRIAL, tmp_path))
    ratios = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[3:5] for line in lines[2:7]}
    assert [bool(told.strip()) for told in ratios["write, ours"]] == [True, False]
    assert [bool(told.strip()) for told in ratios["read, ours, rows by chance"]] == [False, True]
