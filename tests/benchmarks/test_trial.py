"""The benchmarks against peers, tried on the miniature: whatever the speed, both sides give the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ceilings import ceilings
from benchmarks.measuring import Measured
from benchmarks.profiles import TRIAL
from benchmarks.sampling import sampling
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
