"""The page is built from the measured files alone, and the committed one is theirs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measuring import write_measured
from benchmarks.page import PAGE, page
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
    assert "| judges over N4 in float32 | 5 [4, 6] | 2.5 | 3.5 | target |" in text
    assert "| scoring: ours bfloat16 | 4 | 2 | 50% | 1 |" in text
    assert text.count("Not measured yet") == 1
