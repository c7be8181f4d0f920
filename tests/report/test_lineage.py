"""From what a person names to the links behind it; what no manifest tells is a broken link, not a guess."""

from __future__ import annotations

import json

import pytest

from spin.core.errors import ConfigError
from spin.core.layout import RunFolder, RunsRoot
from spin.report.lineage import Lineage, lineage
from spin.report.request import ReportRequest
from spin.report.room import run
from tests.report.conftest import RunBuilder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A reported run whose manifests say of nothing what it was made from."""
    builder = RunBuilder(tmp_path_factory.mktemp("lineage") / "runs")
    builder.build()
    run(ReportRequest(builder.root, builder.name))
    return RunsRoot(builder.root).run(builder.name)


def kinds(found: Lineage) -> list[str]:
    return [link.kind for link in found.links]


def test_a_figure_goes_by_its_path_its_file_or_its_name(folder: RunFolder) -> None:
    for name in ("test.single.scores", "test.single.scores.csv", "tables/test.single.scores.csv"):
        found = lineage(folder, name)
        assert found.start == "figure tables/test.single.scores.csv"
    scored = [link.name for link in found.links if link.kind == "scores"]
    assert scored == [f"{label}, test.single" for label in ("data", "base", "SFT", "SPIN 1", "SPIN 2", "SPIN 3")]


def test_plots_of_training_come_from_logs_tables_of_time_from_the_record_and_sheets_from_pictures(
    folder: RunFolder,
) -> None:
    assert kinds(lineage(folder, "tables/time.csv")) == ["figure", "config"]
    sheet = lineage(folder, "contact-sheet.png")
    assert "pictures" in kinds(sheet)
    assert "scores" not in kinds(sheet)
    assert lineage(folder, "index.html").start == "report"


def test_what_no_manifest_tells_breaks_the_chain(folder: RunFolder) -> None:
    problems = lineage(folder, "SPIN 3:aesthetic").problems
    assert "nothing tells which weights judged" in problems
    assert any("miniature is missing" in problem for problem in problems)  # the base model's folder


def test_a_figure_that_was_changed_by_hand_is_found(folder: RunFolder) -> None:
    table = folder.report.parent / "tables" / "test.single.scores.csv"
    text = table.read_text()
    stale = "is not what the scores give now; spin-diffusion report writes it anew"
    assert lineage(folder, "test.single.scores").links[0].files[0].broken == ""
    table.write_text(text.replace("1", "2", 1))
    assert lineage(folder, "test.single.scores").links[0].files[0].broken == stale
    table.write_text(text)


def test_a_number_is_the_mean_of_the_score_table(folder: RunFolder) -> None:
    value = lineage(folder, "iteration-03:aesthetic").links[0].facts["value"]
    table = (folder.report.parent / "tables" / "test.single.scores.csv").read_text().splitlines()
    line = next(line for line in table if line.startswith("SPIN 3,aesthetic,"))
    assert f"{value:.6g}" == line.split(",")[3]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("curve-aestetic", "did you mean 'curve-aesthetic'?"),
        ("base:beauty", "no number base:beauty; there are alignment, aesthetic"),
        ("nobody:aesthetic", "there are data, base, sft, iteration-01"),
    ],
)
def test_an_unknown_target_names_what_there_is(folder: RunFolder, target: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        lineage(folder, target)
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_comparison_has_no_lineage(tmp_path_factory: pytest.TempPathFactory) -> None:
    builder = RunBuilder(tmp_path_factory.mktemp("comparison"))
    builder.write_bare_record()
    builder.write_record(builder.record() | {"kind": "comparison"})
    with pytest.raises(ConfigError, match="no run here has made"):
        lineage(RunsRoot(builder.root).run(builder.name), None)


def test_a_page_that_nobody_asked_for_breaks_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    builder = RunBuilder(tmp_path_factory.mktemp("unasked") / "runs")
    builder.build()
    folder = RunsRoot(builder.root).run(builder.name)
    assert "is missing" in lineage(folder, None).links[0].files[0].broken
    record = json.loads(folder.record.read_text())
    record["config"] = {**record["config"], "execution": {"report_page": False}}
    folder.record.write_text(json.dumps(record))
    assert lineage(folder, None).links[0].files[0].broken == ""
