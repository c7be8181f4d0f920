"""kill -9 at every named step of a commit: nothing half-written is believed, and resuming gives equal bytes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from spin.core.store import COMMIT_POINTS
from tests.kill.conftest import STEPS, Forker, Undisturbed, first_stage, half_written, outcome, run_undisturbed

pytestmark = pytest.mark.system

SAMPLES, STATE, LOG = "samples/shard-00001.parquet", "state/step-000002", "train/log.parquet"
CHECKPOINT = f"checkpoints/step-{STEPS:06d}"
ALSO = [  # in the order of the run, so that each resumes what the one before left
    ("after-link", "plan.parquet"), ("after-link", "iteration-01/plan.json"), ("after-write", "shard-00000.parquet"),
    ("before-manifest", "state/step-000004"), ("after-link", "train/held_out.parquet"),
    ("after-link", "train/timing.parquet"),
]  # fmt: skip


def test_an_undisturbed_run_passes_every_point_of_every_commit(undisturbed: Undisturbed) -> None:
    artifacts = list(dict.fromkeys(artifact for _, artifact in undisturbed.events))
    assert [(point, artifact) for artifact in artifacts for point in COMMIT_POINTS] == undisturbed.events
    names = [artifact.removeprefix("try/iteration-01/") for artifact in artifacts]
    assert names == [
        "plan.parquet", "plan.json", "samples/shard-00000.parquet", SAMPLES, f"train/{STATE}",
        "train/state/step-000004", LOG, "train/held_out.parquet", "train/timing.parquet", CHECKPOINT,
    ]  # fmt: skip


@pytest.mark.parametrize("artifact", [SAMPLES, STATE, LOG, CHECKPOINT])
def test_a_run_killed_at_every_point_of_a_commit_in_turn_equals_the_undisturbed_one(
    forker: Forker, undisturbed: Undisturbed, root: Path, artifact: str
) -> None:
    for point in COMMIT_POINTS:  # each resumes what the one before left
        kill(forker, root, point, artifact)
    assert forker.ask(root=str(root))["code"] == 0
    assert outcome(root) == undisturbed.outcome


@pytest.mark.parametrize(
    ("point", "artifact"),
    [("after-link", SAMPLES), ("before-manifest", LOG)],
)
def test_a_run_killed_once_and_resumed_equals_the_undisturbed_one(
    forker: Forker, undisturbed: Undisturbed, root: Path, point: str, artifact: str
) -> None:
    kill(forker, root, point, artifact)
    resumed = forker.ask(root=str(root))
    assert resumed["code"] == 0
    assert resumed["made"] == ([1] if artifact == SAMPLES else [])
    assert outcome(root) == undisturbed.outcome


@pytest.mark.slow
@pytest.mark.parametrize("artifact", [SAMPLES, STATE, LOG, CHECKPOINT])
@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_a_run_killed_once_at_any_point_equals_the_undisturbed_one(
    forker: Forker, undisturbed: Undisturbed, root: Path, point: str, artifact: str
) -> None:
    kill(forker, root, point, artifact)
    assert forker.ask(root=str(root))["code"] == 0
    assert outcome(root) == undisturbed.outcome


def test_a_run_killed_in_every_commit_in_turn_equals_the_undisturbed_one(
    forker: Forker, undisturbed: Undisturbed, root: Path
) -> None:
    for point, artifact in ALSO:
        kill(forker, root, point, artifact)
    assert forker.ask(root=str(root))["code"] == 0
    assert outcome(root) == undisturbed.outcome


def kill(forker: Forker, root: Path, point: str, artifact: str) -> None:
    assert forker.ask(root=str(root), kill=[point, artifact, 1])["code"] == -signal.SIGKILL
    assert half_written(root) == []


def test_a_finished_run_is_entered_again_without_any_work(forker: Forker, undisturbed: Undisturbed) -> None:
    again = forker.ask(root=str(forker.folder / "undisturbed"))
    assert (again["made"], again["steps"], again["events"]) == ([], 0, [])


def test_training_killed_at_step_7_of_20_equals_the_undisturbed_one_byte_for_byte(forker: Forker, root: Path) -> None:
    whole = run_undisturbed(forker, root / "whole", steps=20)
    killed = forker.ask(root=str(root / "killed"), steps=20, kill_at_step=7)
    assert killed["code"] == -signal.SIGKILL
    assert not first_stage(root / "killed").training_log.exists()
    resumed = forker.ask(root=str(root / "killed"), steps=20)
    assert (resumed["made"], resumed["steps"]) == ([], 14)  # from the state of step 6
    assert outcome(root / "killed", steps=20) == whole.outcome
    for name in ("train/log.parquet", "train/held_out.parquet"):
        one, two = (first_stage(root / run).path / name for run in ("whole", "killed"))
        assert one.read_bytes() == two.read_bytes()
