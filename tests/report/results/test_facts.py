"""Scores and facts of a comparison come back as they were written, in the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.errors import ArtifactError, ConfigError
from spin.report.results.facts import FACTS, SCORES, read_facts, read_scores, write_scores
from tests.report.results.written import facts, write


def test_facts_come_back_as_they_were(tmp_path: Path) -> None:
    assert read_facts(write(tmp_path)) == facts()


def test_equal_scores_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    rows = [("base", 0, "b", "alignment", 1.0), ("base", 0, "a", "alignment", 2.0)]
    write_scores(tmp_path, rows)
    first = (tmp_path / SCORES).read_bytes()
    write_scores(tmp_path, rows[::-1])
    assert (tmp_path / SCORES).read_bytes() == first
    assert read_scores(tmp_path)["prompt"].to_pylist() == ["a", "b"]


def test_nothing_scored_yet_is_an_empty_table(tmp_path: Path) -> None:
    write_scores(tmp_path, [])
    assert read_scores(tmp_path).num_rows == 0


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no results of a comparison here"):
        read_facts(tmp_path)


def test_damaged_facts_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / FACTS).write_text("{}")
    with pytest.raises(ArtifactError, match="is damaged"):
        read_facts(tmp_path)


def test_damaged_scores_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / SCORES).write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_scores(tmp_path)
