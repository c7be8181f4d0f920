"""The report from the outside: files in, page and numbers out."""

import hashlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spin.core import store
from spin.core.errors import ArtifactError, SpinError
from spin.core.layout import RunsRoot
from spin.core.requests import from_json, to_json
from spin.report.request import ReportRequest, ReportResult
from spin.report.room import replace_file, run
from tests.report.conftest import PAPER, RunBuilder


def report(builder):
    result = run(ReportRequest(builder.root, builder.name))
    return result, result.page.read_text("utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    builder = RunBuilder(tmp_path_factory.mktemp("report") / "runs")
    builder.build()
    return (*report(builder), builder)


def sections(page):
    return re.findall(r'<section id="(\w+)"', page)


class Balance(HTMLParser):
    """Every element that opens closes, in order."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "path", "use", "rect"})

    def __init__(self):
        super().__init__()
        self.open, self.resources, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self._note(tag, dict(attrs))

    def handle_startendtag(self, tag, attrs):
        self._note(tag, dict(attrs))

    def _note(self, tag, attributes):
        self.resources += [attributes[key] for key in ("src", "href", "srcset", "action") if attributes.get(key)]
        self.ids += [attributes["id"]] if "id" in attributes else []

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open.pop() == tag


def parsed(page):
    parser = Balance()
    parser.feed(page)
    return parser


def test_every_section_of_a_finished_run_is_there(finished):
    _, page, _ = finished
    assert sections(page) == [
        "scores", "wins", "paper", "pictures", "gallery", "curves", "convergence", "training", "time", "origin",
    ]  # fmt: skip


def test_the_page_is_well_formed_and_ids_are_unique(finished):
    found = parsed(finished[1])
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))


def test_the_page_fetches_nothing(finished):
    result, page, _ = finished
    links = [link for link in parsed(page).resources if not link.startswith(("data:", "#"))]
    assert all((result.page.parent / link).is_file() for link in links)  # what stands beside it, opened by a click
    assert not re.search(r'(?:src|srcset)="(?!data:)', page)
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_references_inside_figures_lead_somewhere(finished):
    _, page, _ = finished
    ids = set(parsed(page).ids)
    used = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert used
    assert used <= ids


def test_figures_take_the_colours_of_the_page(finished):
    _, page, _ = finished
    figures = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--accent)" in figures
    assert not re.search(r"#[0-9a-f]{6}\b", figures)  # no fixed colour would suit both light and dark


def test_no_mathematics_markup_leaks_into_figures(finished):
    assert "mathdefault" not in finished[1]


def test_equal_inputs_give_equal_bytes(finished, tmp_path):
    result, _page, _ = finished
    again = RunBuilder(tmp_path / "runs")
    again.build()
    second, _ = report(again)
    for name in ("index.html", "table.csv", "grid.png", "contact-sheet.png"):
        digests = {hashlib.sha256(r.page.with_name(name).read_bytes()).hexdigest() for r in (result, second)}
        assert len(digests) == 1, name
    assert store.verify(result.metrics).content_digest == store.verify(second.metrics).content_digest


def test_captions_are_shown_as_text(builder):
    builder.stages = ("base",)
    builder.captions[0] = "<script>alert(1)</script>"
    builder.captions[1] = '" onerror="alert(2)'
    builder.captions[2:] = [f"{i} {{{{ 7 * 7 }}}} $x_1$" for i in range(14)]
    _, page = report_of(builder)
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert 'onerror="alert' not in page
    assert "{{ 7 * 7 }}" in page


def test_scorers_labels_and_values_of_the_record_are_shown_as_text(builder):
    builder.stages = ("base", "sft")
    builder.build()
    record = builder.record()
    record["stages"][1]["label"] = "<b>SFT</b> $x$"
    record["config"]["data"]["path"] = "<img src=x>"
    record["versions"]["<i>"] = "</style>"
    builder.write_record(record)
    _, page = report(builder)
    assert "<b>SFT" not in page
    assert "<img src=x" not in page
    assert page.count("</style>") == 1
    assert parsed(page).open == []


def test_the_table_shows_the_mean_of_the_scores(finished):
    _, page, builder = finished
    assert f'<span class="mean">{builder.values("sft", "aesthetic").mean():.2f}</span>' in page
    assert f'<span class="median">{np.median(builder.values("sft", "aesthetic")):.2f}</span>' in page


def test_the_page_says_that_intervals_are_unadjusted_and_where_nothing_is_told_apart(finished):
    assert "per metric and unadjusted" in finished[1]
    assert "not distinguishable" in finished[1]


def test_the_page_says_whose_scale_dominates_the_average_and_which_average_is_ours(finished):
    _, page, builder = finished
    levels = {scorer: builder.values("base", scorer).mean() for scorer in builder.scorers}
    part = round(100 * levels["alignment"] / sum(levels.values()))
    assert f"Alignment makes up {part}&nbsp;% of it, so its scale dominates." in page
    assert "The average z is ours, not the paper's" in page


def test_the_page_says_how_many_prompts_an_effect_needs(finished):
    _, page, builder = finished
    gains = builder.values("iteration-03", "aesthetic") - builder.values("sft", "aesthetic")
    needed = int(np.ceil(((1.959964 + 0.841621) * gains.std(ddof=1) / gains.mean()) ** 2))
    row = re.search(r'<tr><th scope="row">Aesthetic</th><td class="better">.*?</tr>', page.split("How far these")[1])[0]
    assert re.findall(r"<td>([^<]*)</td>", row)[-1] == str(needed)
    assert re.findall(r"<td>([^<]*)</td>", row)[0] == "16"


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


def test_every_plot_and_every_table_is_a_file_and_is_listed(finished):
    result, page, _ = finished
    folder = result.page.parent
    plots = {path.name for path in (folder / "plots").iterdir()}
    assert len(plots) == len(re.findall(r"<figure>", page))
    assert {"radar.svg", "histogram-aesthetic.svg", "images-aesthetic.svg", "wins-average.svg"} <= plots
    tables = {path.name for path in (folder / "tables").iterdir()}
    assert tables == {"costs.csv", *(f"test.single.{name}.csv" for name in ("scores", "differences", "win-rates"))}
    for name in plots:
        assert f'href="plots/{name}"' in page
    for name in tables:
        assert f'href="tables/{name}"' in page


def test_further_evaluations_have_their_tables_and_the_paper_stands_beside_its_own(builder):
    builder.benchmark, builder.protocol, builder.scorers = "pickapic_test", "best_of_n", PAPER
    builder.further = ("partiprompts.single",)
    builder.stages = ("base", "sft", "iteration-01")
    result, page = report_of(builder)
    assert "further" in sections(page)
    own, further = page.split('<section id="further"')
    assert "partiprompts, single: 16 prompts" in further
    assert "The paper has no numbers of partiprompts (single)." in further
    assert "21.1983" in own
    assert "PickScore makes up 76&nbsp;% of it, so its scale dominates." in own
    assert "spin_iteration_3<small>not in this run</small>" in own
    tables = {path.name for path in (result.page.parent / "tables").iterdir()}
    assert {"pickapic_test.best_of_n.paper.csv", "partiprompts.single.win-rates.csv"} <= tables
    assert "partiprompts.single.paper.csv" not in tables
    assert parsed(page).open == []


def test_where_the_papers_numbers_do_not_apply_one_sentence_says_so(finished):
    assert "They do not apply to test (single)." in finished[1]


def test_the_page_says_how_many_pictures_it_holds_and_stays_small(finished):
    _, page, _ = finished
    shown = page.count("<img ")
    assert f"This page holds {shown} pictures." in page
    assert shown <= (12 + 2 * 4) * 6 + 12
    assert len(page) < 3_000_000


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


def test_own_data_without_judges_has_its_sections(builder):
    builder.stages = ("base", "iteration-01")
    builder.scorers = ()
    result, page = report_of(builder)
    assert [cell.column.metric for cell in result.rows[0].cells] == ["frechet", "diversity", "denoising"]
    assert {"scores", "pictures", "curves", "convergence"} <= set(sections(page))


def test_no_sft_stage_and_no_iteration_are_no_trouble(builder):
    builder.stages = ("base", "iteration-01")
    assert "the start of the game" not in report_of(builder)[1]
    builder.stages = ("base", "sft")
    assert "Self-play iterations" not in report_of(builder)[1]
    builder.stages = ("base",)
    assert "Differences" not in report_of(builder)[1]


def test_without_pictures_the_grid_is_left_out(builder):
    builder.stages = ("base",)
    builder.pictures = False
    result, page = report_of(builder)
    assert "pictures" not in sections(page)
    assert result.grid is None


def test_without_recorded_seconds_the_stages_own_are_used(builder):
    builder.build()
    builder.write_record(builder.record() | {"stage_seconds": []})
    assert "52.0 s" in report(builder)[1]  # 3 x 8 s sampling + 4 x 7 s training


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
