from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spin.core.gate import judge
from spin.core.layout import EvaluationFolder
from spin.core.plan import identity_hash
from spin.report.evidence import gather, seen_by_gate
from spin.report.reading import read_run
from spin.report.request import ReportRequest
from spin.report.room import run as report
from spin.report.scoring import convergence, score_rows


def evidence_of(builder):
    run = read_run(runs_root=builder.root, run=builder.name)
    return run, {found.stage: found for found in gather(run, score_rows(run))}


def test_every_trained_model_is_shown_against_the_model_before(finished_run):
    _, found = evidence_of(finished_run)
    assert [(each.stage, each.label, each.before, each.against) for each in found.values()] == [
        ("sft", "SFT", "base", "base"),
        ("iteration-01", "SPIN 1", "sft", "SFT"),
        ("iteration-02", "SPIN 2", "iteration-01", "SPIN 1"),
        ("iteration-03", "SPIN 3", "iteration-02", "SPIN 2"),
    ]


def test_gains_are_those_of_the_judges_and_the_loss_stands_apart(finished_run):
    run, found = evidence_of(finished_run)
    shown = found["iteration-02"]
    assert sorted(shown.gains) == ["aesthetic", "alignment", "attributes"]
    gain = finished_run.values("iteration-02", "aesthetic") - finished_run.values("iteration-01", "aesthetic")
    assert shown.gains["aesthetic"].value == pytest.approx(gain.mean())
    assert shown.gains["aesthetic"].low < gain.mean() < shown.gains["aesthetic"].high
    assert shown.held_out == convergence(run, run.stages[3])[2].difference
    assert shown.held_out.value > 0  # 0.0224 -> 0.0229


def test_the_loss_has_one_interval_wherever_it_is_shown(finished_run):
    run, found = evidence_of(finished_run)
    row = next(row for row in score_rows(run) if row.name == "iteration-02")
    cell = next(cell for cell in row.cells if cell.column.metric == "denoising")
    shown = next(comparison for comparison in cell.comparisons if comparison.against == "previous")
    assert shown.difference.low == pytest.approx(found["iteration-02"].held_out.low, rel=1e-9)
    assert shown.difference.high == pytest.approx(found["iteration-02"].held_out.high, rel=1e-9)


def test_the_rules_can_be_asked_of_written_scores(builder):
    builder.stages = ("base", "sft", "iteration-01")
    builder.build()
    even, noise = np.arange(16.0) + 60, np.tile([0.5, -0.5], 8)
    builder.write_scores("sft", {"alignment": even, "aesthetic": even})
    builder.write_scores("iteration-01", {"alignment": even + noise, "aesthetic": even - 1})
    _, found = evidence_of(builder)
    assert judge(found["iteration-01"]).decision == "go-back"
    builder.write_scores("iteration-01", {"alignment": even + noise, "aesthetic": even + 1})
    _, found = evidence_of(builder)
    assert judge(found["iteration-01"]).decision == "stop"  # 0.0221 -> 0.0224: the loss rises
    assert judge(found["iteration-01"]).reasons[0].startswith("SPIN 1 gains on SFT: aesthetic +1.00 [+1.00, +1.00]")


def test_a_model_trained_after_going_back_is_shown_against_its_own_opponent(builder):
    builder.build()
    record = builder.record()
    record["stages"][4]["opponent_digest"] = identity_hash("weights", "iteration-01")
    builder.write_record(record)
    _, found = evidence_of(builder)
    assert (found["iteration-03"].before, found["iteration-03"].against) == ("iteration-01", "SPIN 1")
    gain = builder.values("iteration-03", "alignment") - builder.values("iteration-01", "alignment")
    assert found["iteration-03"].gains["alignment"].value == pytest.approx(gain.mean())


def test_what_was_not_scored_yet_gives_no_evidence(builder):
    builder.build()
    record = builder.record()
    record["stages"][3]["evaluation"] = None
    builder.write_record(record)
    _, found = evidence_of(builder)
    assert list(found) == ["sft", "iteration-01"]  # SPIN 2 has no scores, so SPIN 3 has none to be held against


def test_without_judges_the_loss_alone_is_shown(builder):
    builder.scorers = ()
    builder.stages = ("base", "sft")
    builder.build()
    _, found = evidence_of(builder)
    assert dict(found["sft"].gains) == {}
    assert judge(found["sft"]).decision == "go-on"  # 0.0262 -> 0.0221


def test_a_base_alone_gives_no_evidence(builder):
    builder.stages = ("base",)
    builder.build()
    assert evidence_of(builder)[1] == {}


def with_gate(run, mode, benchmark="validation"):
    return replace(run, record={**run.record, "config": {"gate": {"mode": mode, "benchmark": benchmark}}})


def test_the_gate_sees_the_prompts_that_it_decides_by(finished_run):
    run = read_run(runs_root=finished_run.root, run=finished_run.name)
    other = replace(run.stages[0].evaluation, folder=EvaluationFolder(Path("validation.single.0123")))
    stages = tuple(replace(stage, further={"validation.single": other}) for stage in run.stages)
    both = with_gate(replace(run, stages=stages), "rules")
    assert all(stage.evaluation is other for stage in seen_by_gate(both).stages)
    assert seen_by_gate(with_gate(both, "off")).stages == stages
    assert seen_by_gate(with_gate(both, "rules", "test")).stages == stages


@pytest.mark.parametrize(
    ("configured", "key"),
    [("/p/mine.txt", "mine.single"), ("partiprompts=/copies/parti-prompts", "partiprompts.single")],
)
def test_the_gate_finds_prompts_by_the_name_that_their_evaluation_bears(builder, configured, key):
    builder.further = (key,)
    builder.build()
    run = with_gate(read_run(runs_root=builder.root, run=builder.name), "rules", configured)
    assert {stage.evaluation.key for stage in seen_by_gate(run).stages} == {key}


@pytest.mark.parametrize("configured", ["validation", "/p/mine.txt"])
def test_a_gate_whose_prompts_nobody_scored_decides_by_no_others(builder, configured):
    builder.stages = ("base", "sft", "iteration-01")
    builder.build()
    record = builder.record()
    record["config"]["gate"] = {"mode": "rules", "benchmark": configured}
    builder.write_record(record)
    told = report(ReportRequest(builder.root, builder.name, page=False))
    assert told.evidence == ()
    assert told.scores  # of the reported prompts, which the story still tells of
