"""A measured table: values in, means and intervals out."""

from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.errors import ArtifactError
from spin.report.results.measured import (
    MEASURED,
    Measured,
    MeasuredColumn,
    MeasuredRow,
    measured_chapter,
    read_measured,
    write_measured,
)
from spin.report.results.page import whole_page

TABLE = Measured(
    question="Which is better?",
    text="Two things were measured.",
    command="python -m benchmarks.some",
    machine="a CPU",
    columns=(MeasuredColumn("score", "Score", 1), MeasuredColumn("right", "right, %", 0, 100.0)),
    also=("seconds",),
    rows=(MeasuredRow("one", "One", ("1.0",)), MeasuredRow("two", "Two", ("2.5",))),
)
SCORES = {("one", "score"): {"a": 1.0, "b": 1.0}, ("one", "right"): {"a": 1.0, "b": 1.0}, ("two", "score"): {"a": 3.0}}


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    write_measured(tmp_path, TABLE, SCORES)
    assert read_measured(tmp_path) == TABLE


def test_a_cell_is_a_mean_with_its_interval_and_empty_where_nothing_was_measured(tmp_path: Path) -> None:
    write_measured(tmp_path, TABLE, SCORES)
    text = measured_chapter(tmp_path, "A note.")
    assert "| One | 1.0 [1.0, 1.0] | 100 [100, 100] | 1.0 |" in text
    assert "| Two | 3.0 [3.0, 3.0] | \N{EN DASH} | 2.5 |" in text
    assert "`python -m benchmarks.some`" in text
    assert text.endswith("A note.\n")


def test_a_measured_table_is_a_chapter_of_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    write_measured(folder / "some", TABLE, SCORES)
    (folder / "opening.md").write_text("# All\n")
    (folder / "order.txt").write_text("some\n")
    assert "## Which is better?" in whole_page(folder)[tmp_path / "results.md"]


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / MEASURED).write_text("{}")
    with pytest.raises(ArtifactError, match="is damaged"):
        read_measured(tmp_path)
