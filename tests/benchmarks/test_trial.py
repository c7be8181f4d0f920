"""The benchmarks against peers, tried on the miniature: whatever the speed, both sides give the same numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ceilings import ceilings
from benchmarks.measuring import Measured, read_measured
from benchmarks.profiles import TRIAL
from benchmarks.sampling import sampling
from benchmarks.scaling import SHARDS_PER_WORKER
from benchmarks.tables import short_table
from benchmarks.training import training


def all_holds(found: Measured, *, checks: int) -> None:
    assert len(found.checks) == checks
    assert [check for check in found.checks if not check.holds] == []
    assert {len(timed.seconds) for timed in found.timed} == {TRIAL.rounds}


@pytest.mark.slow
def test_our_images_are_those_of_diffusers_pipeline(tmp_path: Path) -> None:
    found = sampling(TRIAL, tmp_path)
    all_holds(found, checks=4)  # two solvers in two precisions
    assert found.of("ours bfloat16").units == TRIAL.shard
    assert [row.split(" | ")[3] for row in short_table([found])[2:]] == list(found.against)


@pytest.mark.slow
def test_our_errors_are_those_of_diffusion_dpos_step(tmp_path: Path) -> None:
    found = training(TRIAL, tmp_path)
    all_holds(found, checks=2)
    assert {timed.units for timed in found.timed if not timed.is_ceiling} == {TRIAL.step}
    assert found.of("ours bfloat16").flops == found.of("N3 bfloat16").flops


def test_ceilings_are_of_both_precisions_and_of_a_copy(tmp_path: Path) -> None:
    found = ceilings(TRIAL, tmp_path)
    assert [timed.name for timed in found.timed] == ["matmul float32", "matmul bfloat16", "copy, GB"]


def run_trial(name: str, folder: Path) -> Measured:
    """In a process of its own: these start a Prefect server."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "trial", "--folder", str(folder), "--keep", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return read_measured(folder / "trial" / f"{name}.json")


@pytest.mark.slow
def test_a_resume_makes_nothing_again_and_a_run_tells_its_share_outside_rooms(tmp_path: Path) -> None:
    found = run_trial("orchestration", tmp_path)
    assert [check.difference for check in found.checks] == [0.0]
    assert 0 < found.facts["demo, share outside rooms"] < 1
    assert found.of("resume").units == TRIAL.standing


@pytest.mark.slow
def test_every_shard_of_every_worker_stands(tmp_path: Path) -> None:
    found = run_trial("scaling", tmp_path)
    made = [len(list((tmp_path / f"workers-{workers}" / "shards").iterdir())) for workers in TRIAL.workers]
    assert made == [timed.units for timed in found.timed] == [SHARDS_PER_WORKER, 2 * SHARDS_PER_WORKER]
    assert found.facts["efficiency, 1 worker"] == 1
