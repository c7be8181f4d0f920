"""Training beside sampling on one machine: a GPU that images are drawn on is not held while they are waited for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prefect import flow

from flows.past_run import PastRun
from flows.work import learn
from spin.core.errors import ArtifactError
from spin.core.layout import RunsRoot
from spin.core.store import discard, read_manifest
from spin.train.request import Awaited
from spin.train.standing import Standing
from tests.flows.conftest import Played
from tests.tasks.test_claims import ROOT, said, worker

ASKS = "import sys; from tasks.devices import owned\nwith owned('cuda') as names: print(*names)"


def test_a_training_on_a_gpu_of_a_sampling_worker_waits_without_it(
    copy: Callable[[], Played], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held, it would keep the images from being drawn that the training waits for, for ever."""
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-of-both")
    run = copy()
    past = PastRun.open(str(run.root), "tiny")
    stage = RunsRoot(run.root).run("tiny").iteration(2)
    manifest = read_manifest(stage.samples(0))
    assert manifest is not None
    discard(stage.samples(1))
    request = past.requests.train_iteration(2, past.prepared, past.round_of(2).start)
    request = replace(request, device="cuda", awaited=Awaited(dict(manifest.identity), 1.0))
    got: list[str] = []

    def rest(standing: Standing) -> bool:
        """Between the first two looks the worker takes the GPU, as its child flow run does."""
        if not got:
            got.append(subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, cwd=ROOT).stdout)
        return standing.ended.wait(0.05)

    @flow(name="training")
    def order() -> None:
        learn(replace(past.requests, device="cuda"), request, "k=2")

    sampling = worker("GPU-of-both")
    try:
        assert said(sampling) == "claimed"
        monkeypatch.setattr(Standing, "rest", rest)
        with pytest.raises(ArtifactError, match="shard 1 of 3 did not come"):
            order()
    finally:
        sampling.communicate("\n")
    assert got == ["GPU-of-both\n"]
