"""The gate inside a run: what the rules say is done and written down; where nobody can be asked, the default is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.gate import _ask
from flows.requests import Requests
from spin.core.config import load_config
from spin.core.gate import Evidence, best, judge
from spin.core.layout import RunFolder, RunsRoot
from spin.core.planning import read_plan
from spin.core.record import Record, read_record
from spin.report.request import ReportRequest, ReportResult
from tests.flows.command_line import start_script
from tests.flows.conftest import TINY, play, tiny

pytestmark = pytest.mark.system

WORSE = ("train.lr=0.1", "train.warmup_steps=0", "train.steps=2", "sft.steps=0")


def told(folder: RunFolder) -> ReportResult:
    from spin.report.room import run

    return run(ReportRequest(folder.root.path, folder.path.name, page=False))


def read(root: Path, name: str = "tiny") -> tuple[RunFolder, Record, dict[str, Any]]:
    folder = RunsRoot(root).run(name)
    record = read_record(folder)
    return folder, record, {stage["name"]: stage for stage in record["stages"]}


def test_a_model_that_is_worse_is_gone_back_from(tmp_path: Path) -> None:
    play(tiny(tmp_path, "gate.mode=rules", *WORSE))
    folder, record, stages = read(tmp_path)
    evidence = {each.stage: each for each in told(folder).evidence}
    assert list(evidence) == ["iteration-01", "iteration-02"]
    for name, shown in evidence.items():
        verdict = judge(shown)
        assert verdict.decision == "go-back"  # else this test shows nothing: make the training worse
        assert stages[name]["gate"] == {
            "decision": "go-back", "by": "rules", "reasons": list(verdict.reasons), "model": stages[name]["digest"],
        }  # fmt: skip
        assert list(stages[name]["evaluations"]) == ["test.single", "validation.single"]  # the second one decides
    parents = [read_plan(folder.iteration(number)).parent_digest for number in (1, 2)]
    assert parents == [stages["base"]["digest"]] * 2
    assert stages["iteration-02"]["opponent_digest"] == stages["base"]["digest"]
    assert "stopped" not in record


@pytest.mark.slow
def test_rules_that_do_not_all_hold_stop_the_run_and_the_best_that_they_saw_is_named(tmp_path: Path) -> None:
    """At a learning rate of 0 no judge can see a gain. What an earlier call played after the stop does not count."""
    still = ("sft.steps=0", "train.lr=0", "train.steps=1")
    play(tiny(tmp_path, *still))
    _, record, stages = read(tmp_path)
    assert "stopped" not in record
    assert "gate" not in stages["iteration-01"]
    nothing = play(tiny(tmp_path, *still, "gate.mode=rules", "gate.benchmark=test"))
    assert nothing == "0 images sampled, 0 optimizer steps, 0 images scored"
    folder, record, stages = read(tmp_path)
    evidence = told(folder).evidence
    assert [judge(each).decision for each in evidence] == ["stop", "stop"]
    assert stages["iteration-01"]["gate"]["decision"] == "stop"
    assert "gate" not in stages["iteration-02"]
    assert record["stopped"] == {"after": "iteration-01", "best": best(evidence[:1])}
    assert record["stopped"]["best"] == "base"


@pytest.mark.slow
def test_where_nobody_can_be_asked_the_default_is_taken_with_a_warning(tmp_path: Path) -> None:
    overrides = (*TINY, "sft.steps=0", "gate.mode=person", "gate.default=stop", "run.name=alone")
    answer = start_script(tmp_path, "demo", *(word for text in overrides for word in ("--set", text)))
    assert answer.code == 0, answer.err
    assert answer.err == "gate after SPIN 1: nobody can be asked here: stop, the default\n"
    assert "stopped by the gate after iteration-01; best: " in answer.out
    _, _, stages = read(tmp_path / "runs", "alone")
    assert stages["iteration-01"]["gate"]["by"] == "default"
    assert list(stages) == ["base", "iteration-01"]


def test_a_typing_error_on_the_terminal_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be taken for the default, signed by a person."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    answers = ["stpo", " STOP"]
    monkeypatch.setattr("typer.prompt", lambda *_, **__: answers.pop(0))
    requests = Requests(load_config("miniature", overrides=["gate.mode=person"]), "cpu")
    evidence = Evidence("iteration-01", "SPIN 1", "base", "base", {}, None)
    assert _ask(requests, 1, evidence, (), "") == ("stop", "a person")
    assert answers == []
