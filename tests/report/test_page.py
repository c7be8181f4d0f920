"""What the page shows, read as HTML."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.report.conftest import PAPER, report, sections


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


def test_every_plot_and_every_table_is_a_file_and_is_listed(finished):
    result, page, _ = finished
    folder = result.page.parent
    plots = {path.name for path in (folder / "plots").iterdir()}
    assert len(plots) == len(re.findall(r"<figure>", page))
    assert {"radar.svg", "histogram-aesthetic.svg", "images-aesthetic.svg", "wins-average.svg"} <= plots
    tables = {path.name for path in (folder / "tables").iterdir()}
    own = {"costs.csv", "time.csv", "convergence.csv"}
    assert tables == {*own, *(f"test.single.{name}.csv" for name in ("scores", "differences", "win-rates"))}
    for name in plots:
        assert f'href="plots/{name}"' in page
    for name in tables:
        assert f'href="tables/{name}"' in page


@pytest.mark.system
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


def report_of(builder):
    builder.build()
    return report(builder)


def test_own_data_without_judges_has_its_sections(builder):
    builder.stages = ("base", "iteration-01")
    builder.scorers = ()
    result, page = report_of(builder)
    assert [cell.column.metric for cell in result.rows[0].cells] == ["frechet", "diversity", "denoising"]
    assert {"scores", "pictures", "curves", "convergence"} <= set(sections(page))


@pytest.mark.system
def test_no_sft_stage_and_no_iteration_are_no_trouble(builder):
    builder.stages = ("base", "iteration-01")
    assert "the start of the game" not in report_of(builder)[1]
    builder.stages = ("base", "sft")
    assert "Self-play iterations" not in report_of(builder)[1]
    builder.stages = ("base",)
    assert "Differences" not in report_of(builder)[1]


def test_rows_that_a_rule_left_out_are_told_apart_from_bad_ones(builder):
    builder.stages = ("base",)
    builder.build()
    assert "Left out by rule" not in report(builder)[1]
    builder.write_record(builder.record() | {"dropped": {"tie": 30, "no label": 2}})
    told = "Left out by rule, not bad: tie <strong>30</strong>, no label <strong>2</strong>."
    assert told in report(builder)[1]


def test_rows_in_buckets_are_told_by_their_size(builder):
    builder.stages = ("base",)
    builder.build()
    assert "height and width" not in report(builder)[1]
    builder.write_record(builder.record() | {"buckets": {"512 x 512": 30, "448 x 576": 2}})
    told = "Train rows by height and width in pixels: 512 x 512 <strong>30</strong>, 448 x 576 <strong>2</strong>."
    assert told in report(builder)[1]


@pytest.mark.system
def test_without_recorded_seconds_the_stages_own_are_used(builder):
    builder.build()
    builder.write_record(builder.record() | {"stage_seconds": []})
    assert "52.0 s" in report(builder)[1]  # 3 x 8 s sampling + 4 x 7 s training
