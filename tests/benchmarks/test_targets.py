"""Targets: what was aimed at, beside what was measured."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.measuring import Check, Measured, Timed
from benchmarks.targets import TARGETS, goals
from tests.benchmarks.test_measuring import measured


def judged() -> Measured:
    timed = [Timed("N4 float32", 1, 0.0, [8.0, 10.0, 12.0]), Timed("ours bfloat16", 4, 0.0, [8.0, 8.0, 8.0])]
    return measured(benchmark="scoring", timed=timed, against=["N4 float32"])


def test_a_ratio_has_its_interval_and_the_verdict_is_the_medians() -> None:
    assert goals("cpu", {"scoring": judged()})[2:] == ["| judges over N4 in float32 | 5 [4, 6] | 2.5 | 3.5 | target |"]


def test_a_fact_has_none() -> None:
    found = measured(
        benchmark="scaling", facts={"efficiency, 16 workers": 0.93, "share outside shard bodies, 1 worker": 0.02}
    )
    assert "| efficiency of 16 workers | 93% | 90% | 95% | floor |" in goals("cpu", {"scaling": found})


def test_other_outputs_have_no_verdict_and_other_work_is_told() -> None:
    false = replace(judged(), checks=[Check("scores", 0.2, 0.1)])
    assert goals("cpu", {"scoring": false})[-1].endswith("| does not count |")
    assert goals("cpu", {"scoring": replace(judged(), load=[5.0])})[-1].endswith("| target, noisy |")


def test_what_was_not_measured_has_no_table() -> None:
    assert goals("cpu", {}) == []
    assert goals("gpu", {"scaling": measured()}) == []


def test_a_verdict_goes_by_both_bounds() -> None:
    more = next(goal for goal in TARGETS if goal.what == "sampling over N1")
    less = next(goal for goal in TARGETS if goal.least)
    assert [more.verdict(value) for value in (7.9, 8, 12)] == ["below the floor", "floor", "target"]
    assert [less.verdict(value) for value in (2.9, 2.7, 2.6)] == ["below the floor", "floor", "target"]
