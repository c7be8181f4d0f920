"""The report from the outside: files in, page and numbers out."""

import hashlib
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from PIL import Image

from spin.core import store
from spin.core.errors import ArtifactError, SpinError
from spin.core.layout import RunsRoot
from spin.core.requests import from_json, to_json
from spin.report.request import ReportRequest, ReportResult
from spin.report.room import replace_file, run
from tests.report.conftest import RunBuilder, report, sections


def test_equal_inputs_give_equal_bytes(finished, tmp_path):
    result, _page, _ = finished
    again = RunBuilder(tmp_path / "runs")
    again.build()
    second, _ = report(again)
    for name in ("index.html", "table.csv", "grid.png", "contact-sheet.png"):
        digests = {hashlib.sha256(r.page.with_name(name).read_bytes()).hexdigest() for r in (result, second)}
        assert len(digests) == 1, name
    assert store.verify(result.metrics).content_digest == store.verify(second.metrics).content_digest


def test_metrics_parquet_holds_every_number_of_the_table(finished):
    result, _, builder = finished
    store.verify(result.metrics)
    table = pq.read_table(result.metrics)
    assert table.column_names == ["model", "metric", "statistic", "value", "low", "high", "against"]
    rows = {(r["model"], r["metric"], r["statistic"], r["against"]): r for r in table.to_pylist()}
    assert len(rows) == table.num_rows
    gain = builder.values("iteration-03", "aesthetic") - builder.values("sft", "aesthetic")
    found = rows["SPIN 3", "aesthetic", "difference", "start"]
    assert found["value"] == pytest.approx(gain.mean())
    assert found["low"] < found["value"] < found["high"]
    assert rows["SPIN 2", "frechet", "value", None]["low"] is None
    assert 0 <= rows["SPIN 2", "alignment", "win_rate", "previous"]["value"] <= 1
    counts = [rows["SPIN 2", "attributes", name, "previous"]["value"] for name in ("wins", "ties", "losses")]
    assert sum(counts) == 16


def test_the_spreadsheet_has_one_line_per_model(finished):
    lines = finished[0].table.read_text().splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("model,alignment,")
    assert len({line.count(",") for line in lines}) == 1


def test_the_grid_is_one_png(finished):
    with Image.open(finished[0].grid) as image:
        assert image.format == "PNG"
        assert image.width > image.height / 3


def report_of(builder):
    builder.build()
    return report(builder)


def test_a_run_of_which_only_the_record_exists_has_a_page(builder):
    builder.write_bare_record()
    result, page = report(builder)
    assert result.rows[0].cells == ()
    assert result.grid is None
    assert sections(page) == ["origin"]
    assert "No model of this run has been scored yet." in page


def test_a_run_in_the_middle_says_how_far_it_is(builder):
    builder.build()
    record = builder.record()
    record["stages"][3] |= {"evaluation": None, "training": None}
    record["stages"] = record["stages"][:4]
    builder.write_record(record)
    result, page = report(builder)
    assert "1 of 3 iterations have been scored" in page
    assert result.verdict.startswith("SPIN 1 ")


@pytest.mark.system
def test_a_stage_that_is_still_training_has_its_half_written_log_left_out(builder):
    builder.stages = ("base", "sft", "iteration-01")
    builder.build()
    log = RunsRoot(builder.root).run("miniature").iteration(1).training_log
    store.manifest_path(log).unlink()
    _, page = report(builder)
    assert "training" in sections(page)
    assert "Left out" not in page


def test_a_damaged_file_is_named_and_the_rest_is_shown(builder):
    builder.stages = ("base", "sft")
    builder.build()
    scores = builder.evaluation("sft").scores(0)
    scores.write_bytes(scores.read_bytes()[:-9] + b"XXXXXXXXX")
    _, page = report(builder)
    assert "Left out: evaluations/" in page
    assert "bytes differ from the manifest" in page
    assert "pictures" in sections(page)


def test_without_pictures_the_grid_is_left_out(builder):
    builder.stages = ("base",)
    builder.pictures = False
    result, page = report_of(builder)
    assert "pictures" not in sections(page)
    assert result.grid is None


@pytest.mark.system
def test_a_second_report_replaces_the_first_as_the_run_grows(builder):
    builder.stages = ("base", "sft")
    first, _ = report_of(builder)
    before = pq.read_table(first.metrics).num_rows
    builder.stages = ("base", "sft", "iteration-01")
    second, page = report_of(builder)
    assert pq.read_table(second.metrics).num_rows > before
    store.verify(second.metrics)
    assert "SPIN 1" in page


def test_a_report_written_twice_leaves_no_scraps(builder):
    builder.stages = ("base",)
    report_of(builder)
    result, _ = report(builder)
    names = {path.name for path in result.page.parent.iterdir() if not path.name.startswith(".commit")}
    assert names == {
        "index.html", "grid.png", "contact-sheet.png", "table.csv", "metrics.parquet", "metrics.parquet.manifest.json",
        "tables", "plots",
    }  # fmt: skip
    assert not [path for path in result.page.parent.rglob(".*") if ".tmp-" in path.name]


@pytest.mark.system
def test_files_of_an_earlier_report_that_have_no_successor_are_removed(builder):
    builder.stages = ("base", "sft")
    first, _ = report_of(builder)
    names = {path.name for path in (first.page.parent / "plots").iterdir()}
    builder.stages = ("base",)
    report_of(builder)
    after = {path.name for path in (first.page.parent / "plots").iterdir()}
    assert after < names


def test_without_a_page_only_the_story_is_written(builder):
    builder.stages = ("base", "sft")
    builder.build()
    result = run(ReportRequest(builder.root, builder.name, page=False))
    assert (result.page, result.metrics, result.table, result.grid) == (None, None, None, None)
    folder = RunsRoot(builder.root).run(builder.name).report.parent
    assert [path.name for path in folder.iterdir()] == ["contact-sheet.png"]
    whole = run(ReportRequest(builder.root, builder.name))
    assert whole.page.exists()
    assert (result.rows, result.scores, result.evidence) == (whole.rows, whole.scores, whole.evidence)
    assert result.verdict == whole.verdict


def test_without_a_page_no_plot_is_imported():
    code = "import sys, spin.report.room; sys.exit(bool({'matplotlib.axes', 'jinja2', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_result_crosses_a_process_border_unchanged(finished, tmp_path):
    result, _, builder = finished
    for message in (result, run(ReportRequest(builder.root, builder.name, page=False))):
        (tmp_path / "result.json").write_bytes(to_json(message))
        back = from_json(ReportResult, tmp_path / "result.json")
        assert back == message
        assert back.evidence[0].gains["aesthetic"] == message.evidence[0].gains["aesthetic"]
        assert len(back.scores) == 6


def test_an_unknown_run_is_one_clear_line(tmp_path):
    with pytest.raises(SpinError, match="nowhere"):
        run(ReportRequest(tmp_path, "nowhere"))


def test_a_torn_record_is_one_clear_line(builder):
    builder.stages = ("base",)
    builder.build()
    RunsRoot(builder.root).run("miniature").record.write_text('{"run": ')
    with pytest.raises(ArtifactError):
        report(builder)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot write"):
        replace_file(tmp_path / "file" / "index.html", b"")


def test_the_runs_root_may_move(builder, tmp_path):
    builder.stages = ("base",)
    first, page = report_of(builder)
    shutil.move(builder.root, tmp_path / "elsewhere")
    moved = run(ReportRequest(tmp_path / "elsewhere", builder.name))
    assert moved.page.read_text("utf-8") == page
    assert moved.page != first.page


def test_the_report_needs_no_torch():
    code = "import sys, spin.report.room, spin.report.terminal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_progress_is_told_to_the_end(builder):
    builder.stages = ("base",)
    builder.build()
    told = []
    run(ReportRequest(builder.root, builder.name), progress=lambda done, total, note="": told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
