"""Evaluation on its own and every night: once for each checkpoint, benchmark and settings, told in one table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.entering import only_one
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.nights import read_nights
from tests.flows.conftest import Played

pytestmark = pytest.mark.system

NIGHTLY: dict[str, Any] = {"checkpoint": "newest", "benchmarks": ["validation"], "keep": True}  # as deployed


def evaluate(root: Path, **given: Any) -> tuple[str, list[Any]]:
    """Message of the state and the scores."""
    from flows.evaluate import evaluate as flow

    state: Any = flow(root=str(root), return_state=True, **given)
    scores = state.result()
    assert state.name == "Completed"
    return state.message, scores


def table_of_the_nights() -> list[dict[str, Any]]:
    """The newest table artifact under its key, as the UI shows it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["nights"])))
    newest = max(found, key=lambda artifact: artifact.created)
    rows: list[dict[str, Any]] = json.loads(newest.data)
    return rows


def test_without_any_run_there_is_nothing_to_do(tmp_path: Path) -> None:
    for given in (NIGHTLY, {}):
        message, scores = evaluate(tmp_path / "runs", **given)
        assert (message, scores) == ("nothing to do: 0 images, no run has a checkpoint yet", [])


def test_a_night_scores_the_newest_checkpoint_once(copy: Callable[[], Played]) -> None:
    root = copy().root
    message, scores = evaluate(root, **NIGHTLY)
    assert message == "8 images scored; tiny: SPIN 2"
    assert [(row.label, row.benchmark, row.images_scored) for row in scores] == [("SPIN 2", "validation", 8)]
    history = read_nights(RunsRoot(root))
    assert {row.metric for row in history} == set(scores[0].means)
    assert {(row.run, row.stage, row.benchmark, row.images) for row in history} == {
        ("tiny", "iteration-02", "validation", 8)
    }
    assert table_of_the_nights()[0]["model"] == "SPIN 2"
    message, scores = evaluate(root, **NIGHTLY)
    assert message == "nothing to do: 0 images; tiny: SPIN 2"
    assert [row.images_scored for row in scores] == [0]
    assert read_nights(RunsRoot(root)) == history


@pytest.mark.slow
def test_the_key_is_checkpoint_benchmark_and_settings(copy: Callable[[], Played]) -> None:
    root = copy().root
    evaluate(root, **NIGHTLY)
    for changed in (
        {"checkpoint": "iteration-01"}, {"benchmarks": ["test"], "settings": ["evaluation.seed=1"]},
        {"settings": ["evaluation.guidance_scale=2"]},
    ):  # fmt: skip
        assert evaluate(root, **{**NIGHTLY, **changed})[0].startswith("8 images scored")
        assert evaluate(root, **{**NIGHTLY, **changed})[0].startswith("nothing to do: 0 images; tiny")
    rows = table_of_the_nights()
    assert [row["model"] for row in rows] == ["SPIN 2", "SPIN 2", "SPIN 1", "SPIN 2"]
    assert len({row["benchmark"] for row in rows}) == 3


def test_scores_that_the_run_itself_made_enter_the_history(copy: Callable[[], Played]) -> None:
    """The shipped nightly benchmark is the one that a run scores its models on: else its trend would stay empty."""
    root = copy().root
    message, _ = evaluate(root, checkpoint="newest", benchmarks=["test"], keep=True)
    history = read_nights(RunsRoot(root))
    assert len(history) > 5
    assert message == f"nothing to do: 0 images, {len(history)} standing scores added to the history; tiny: SPIN 2"
    message, _ = evaluate(root, checkpoint="newest", benchmarks=["test"], keep=True)
    assert message == "nothing to do: 0 images; tiny: SPIN 2"
    assert read_nights(RunsRoot(root)) == history


def test_evaluations_that_are_not_kept_leave_the_history_alone(copy: Callable[[], Played]) -> None:
    root = copy().root
    assert evaluate(root, run="tiny", checkpoint="base", settings=["evaluation.seed=3"])[0] == (
        "8 images scored; tiny: base"
    )
    assert read_nights(RunsRoot(root)) == []


def test_an_unknown_checkpoint_names_those_that_exist(played: Played) -> None:
    with pytest.raises(ConfigError, match=r"no model 'iteration-09'.*base, sft, iteration-01, iteration-02"):
        evaluate(played.root, checkpoint="iteration-09")


def test_an_evaluation_with_other_settings_leaves_the_runs_own_in_its_record(copy: Callable[[], Played]) -> None:
    root = copy().root
    before = RunsRoot(root).run("tiny").record.read_bytes()
    _, scores = evaluate(root, run="tiny", benchmarks=["test"], settings=["evaluation.prompts=3"])
    assert [row.label for row in scores] == ["data", "base", "SFT", "SPIN 1", "SPIN 2"]
    assert RunsRoot(root).run("tiny").record.read_bytes() == before


@pytest.mark.slow
def test_scores_are_told_though_the_run_goes_on_meanwhile(copy: Callable[[], Played]) -> None:
    root = copy().root
    folder = RunsRoot(root).run("tiny")
    before = folder.record.read_bytes()
    with only_one(folder):
        message, scores = evaluate(root, run="tiny", benchmarks=["validation"])
    assert (message[:16], len(scores)) == ("40 images scored", 5)
    assert folder.record.read_bytes() == before


def test_a_setting_of_an_evaluation_is_laid_over_the_runs_own_config(played: Played) -> None:
    from flows.past_run import PastRun

    past = PastRun.open(str(played.root), "tiny", ["evaluation.judges=published", "evaluation.scorers=[pickscore]"])
    assert past.requests.config.evaluation.scorers == ("pickscore",)
    assert past.requests.config.train == played.config.train
    with pytest.raises(ConfigError, match="alignment is none of the published judges'"):
        PastRun.open(str(played.root), "tiny", ["evaluation.judges=published", "evaluation.scorers=[alignment]"])
