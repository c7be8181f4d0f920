"""docs/results.md is what the committed scores say, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.recipe_file import load_recipe
from spin.report.results.facts import FACTS, read_facts
from spin.report.results.measured import MEASURED
from spin.report.results.page import whole_page

pytestmark = pytest.mark.system

RESULTS = Path(__file__).parents[1] / "docs" / "results"
CHAPTERS = (RESULTS / "order.txt").read_text("utf-8").split()


def test_the_page_comes_out_of_the_committed_scores_byte_for_byte() -> None:
    for path, text in whole_page(RESULTS).items():
        assert path.read_bytes() == text.encode(), path.name


def test_the_committed_files_are_small_and_hold_no_pictures() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".parquet", ".json", ".md", ".txt", ".svg"}
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.parametrize("name", [name for name in CHAPTERS if (RESULTS / name / FACTS).exists()])
def test_a_chapter_was_played_by_the_recipe_that_travels_with_the_package(name: str) -> None:
    assert read_facts(RESULTS / name).recipe == load_recipe(name).recipe


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_chapter_has_its_numbers(name: str) -> None:
    assert (RESULTS / name / FACTS).exists() or (RESULTS / name / MEASURED).exists()
