"""The page is built from the measured files alone, and the committed one is theirs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measuring import write_measured
from benchmarks.page import PAGE, page
from benchmarks.targets import TARGETS
from tests.benchmarks.test_measuring import measured


def test_the_committed_page_is_that_of_the_committed_measurements() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m benchmarks.page"


def test_a_profile_that_was_not_measured_says_so(tmp_path: Path) -> None:
    assert page(tmp_path).count("Not measured yet") == 2


def test_a_measured_benchmark_has_its_table_and_its_roofline(tmp_path: Path) -> None:
    found = measured(benchmark="scoring")
    names = {"slow": "N4 float32", "ours": "ours bfloat16"}
    timed = [type(each)(**{**vars(each), "name": names.get(each.name, each.name)}) for each in found.timed]
    write_measured(
        tmp_path / "cpu" / "scoring.json", measured(benchmark="scoring", timed=timed, against=["N4 float32"])
    )
    text = page(tmp_path)
    assert "| judges over N4 in float32 | 5 | 2.5 | 3.5 | target |" in text
    assert "| scoring: ours bfloat16 | 4 | 2 | 50% | 1 |" in text
    assert text.count("Not measured yet") == 1


def test_a_verdict_goes_by_both_bounds() -> None:
    more = next(goal for goal in TARGETS if goal.what == "sampling over N1")
    less = next(goal for goal in TARGETS if goal.least)
    assert [more.verdict(value) for value in (7.9, 8, 12)] == ["below the floor", "floor", "target"]
    assert [less.verdict(value) for value in (2.9, 2.7, 2.6)] == ["below the floor", "floor", "target"]
