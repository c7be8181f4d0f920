import csv
import xml.etree.ElementTree as ET

import pytest

from spin.report.boards import board
from spin.report.costs import cost_table
from spin.report.drawings import draw_all
from spin.report.exports import exports
from spin.report.reading import read_run
from tests.report.conftest import PAPER


def exported(builder):
    run = read_run(runs_root=builder.root, run=builder.name)
    first = board(run, run.key)
    return {file.path: file for file in exports(run, [first], cost_table(run), draw_all(run, first))}


@pytest.fixture(scope="module")
def files(finished_run):
    return exported(finished_run)


def lines(file):
    return list(csv.DictReader(file.text.splitlines()))


def test_tables_hold_the_numbers_of_the_page(finished_run, files):
    scores = {(row["model"], row["metric"]): row for row in lines(files["tables/test.single.scores.csv"])}
    assert float(scores["SFT", "aesthetic"]["mean"]) == pytest.approx(
        finished_run.values("sft", "aesthetic").mean(), rel=1e-5
    )
    assert scores["SFT", "frechet"]["low"] == ""
    wins = {(r["model"], r["opponent"], r["metric"]): r for r in lines(files["tables/test.single.win-rates.csv"])}
    a, b = finished_run.values("sft", "attributes"), finished_run.values("base", "attributes")
    found = wins["SFT", "base", "attributes"]
    assert [int(found[name]) for name in ("wins", "ties", "losses")] == [(a > b).sum(), (a == b).sum(), (a < b).sum()]
    assert len(wins) == 6 * 5 * 5  # each of six against five others, by three judges and two averages
    costs = lines(files["tables/costs.csv"])
    assert [row["run"].split(":")[0] for row in costs] == ["this run"] * 2 + ["paper"] * 4


def test_convergence_and_time_of_every_stage_are_files(files):
    losses = lines(files["tables/convergence.csv"])
    assert [(row["model"], row["opponent"]) for row in losses] == [
        ("SFT", "base"), ("SPIN 1", "SFT"), ("SPIN 2", "SPIN 1"), ("SPIN 3", "SPIN 2"),
    ]  # fmt: skip
    assert sum(float(row["seconds"]) for row in lines(files["tables/time.csv"])) == 3 * 20.5 + 12.5 + 5.5


def test_differences_name_what_was_left_out_and_how_many_prompts_are_needed(files):
    found = lines(files["tables/test.single.differences.csv"])
    row = next(r for r in found if (r["model"], r["against"], r["metric"]) == ("SPIN 3", "start", "aesthetic"))
    assert (row["opponent"], row["prompts"], row["left out"]) == ("SFT", "16", "0")
    assert int(row["prompts needed"]) >= 1
    assert float(row["smallest difference shown"]) > 0


def test_the_papers_table_holds_known_numbers_only(builder):
    builder.benchmark, builder.protocol, builder.scorers = "partiprompts", "best_of_n", PAPER
    builder.build()
    (row,) = lines(exported(builder)["tables/partiprompts.best_of_n.paper.csv"])
    assert (row["paper's model"], row["model"], row["metric"], row["paper"]) == (
        "spin_iteration_2", "SPIN 2", "average", "7.4326",
    )  # fmt: skip
    assert float(row["difference"]) == pytest.approx(float(row["run"]) - 7.4326, abs=1e-4)


def test_plots_are_whole_svg_files_with_colours_of_their_own(files):
    plots = [file for path, file in files.items() if path.startswith("plots/")]
    assert len(plots) > 20
    for file in plots:
        assert ET.fromstring(file.text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(--" not in file.text
