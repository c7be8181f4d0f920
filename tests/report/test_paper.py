"""The paper's numbers stand beside ours where they are of the same prompts and protocol, and nowhere else."""

import pytest

from spin.report.boards import board
from spin.report.paper import METRICS, paper_results
from spin.report.reading import read_run
from tests.report.conftest import PAPER


def paper(builder):
    run = read_run(runs_root=builder.root, run=builder.name)
    return board(run, run.key)


@pytest.fixture
def parity(builder):
    builder.benchmark, builder.protocol, builder.scorers = "pickapic_test", "best_of_n", PAPER
    return builder


def test_each_known_number_has_ours_and_the_difference_beside_it(parity):
    parity.build()
    found = paper(parity)
    line = next(line for line in found.paper if (line.statistic, line.model) == ("mean", "spin_iteration_3"))
    assert line.label == "SPIN 3"
    cells = dict(zip(METRICS, line.cells, strict=True))
    own = next(s for s in found.subjects if s.name == "iteration-03").values["pickscore"]
    assert cells["pickscore"].paper == 22.0024
    assert cells["pickscore"].own == pytest.approx(sum(own.values()) / 16)
    assert cells["pickscore"].difference == pytest.approx(cells["pickscore"].own - 22.0024)
    assert cells["average"].paper == 7.4126


def test_win_rates_are_ours_over_our_base_in_percent(parity):
    parity.build()
    found = paper(parity)
    lines = {(line.statistic, line.model): line for line in found.paper}
    cells = dict(zip(METRICS, lines["win rate over SD-1.5, %", "spin_iteration_3"].cells, strict=True))
    labels = found.matrices[0].labels
    share = found.matrices[0].cells[labels.index("SPIN 3")][labels.index("base")].share.value
    assert (cells["average"].paper, cells["average"].own) == (91.6, pytest.approx(100 * share))
    assert (cells["hpsv2"].paper, cells["hpsv2"].difference) == (None, None)


def test_what_is_unknown_stays_empty_on_either_side(parity):
    parity.stages = ("base", "sft")
    parity.build()
    lines = {(line.statistic, line.model): line for line in paper(parity).paper}
    assert lines["mean", "spin_iteration_3"].label == ""
    assert all(cell.own is None and cell.difference is None for cell in lines["mean", "spin_iteration_3"].cells)
    over_dpo = lines["win rate over Diffusion-DPO, %", "spin_iteration_3"]
    assert [cell.paper for cell in over_dpo.cells] == [56.2, 86.8, 55.8, 62.4, 70.2]
    assert lines["mean of the real images", "data"].cells[0].paper is None  # HPS of the winners was not published


@pytest.mark.parametrize(("benchmark", "protocol"), [("test", "best_of_n"), ("pickapic_test", "single")])
def test_other_prompts_and_other_protocols_have_no_paper_beside_them(parity, benchmark, protocol):
    parity.benchmark, parity.protocol = benchmark, protocol
    parity.build()
    assert paper(parity).paper == ()


def test_a_dpo_run_stands_beside_the_papers_dpo(parity):
    parity.stages = ("base", "iteration-01")
    parity.build()
    record = parity.record()
    record["config"]["train"]["objective"] = "dpo"
    parity.write_record(record)
    lines = {(line.statistic, line.model): line for line in paper(parity).paper}
    assert lines["mean", "diffusion_dpo_reproduced"].label == "SPIN 1"
    assert lines["mean", "spin_iteration_3"].label == ""


def test_the_packaged_file_names_a_source_for_every_number():
    assert len(paper_results()) > 20
    assert all(row["source"] for row in paper_results())
