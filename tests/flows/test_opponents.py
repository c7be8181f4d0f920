"""An averaged opponent and its own way to its images, through the hall."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.children import training_request
from flows.past_run import PastRun
from flows.status import print_status
from spin.core.layout import RunsRoot
from spin.core.schema import read_table
from spin.core.store import read_manifest
from spin.report.lineage import lineage
from tests.flows.conftest import play, tiny


@pytest.mark.slow
def test_a_run_against_averaged_opponents_on_their_own_trajectories(tmp_path: Path) -> None:
    config = tiny(
        tmp_path, "train.opponent=average", "train.trajectory=reverse", "sft.steps=0", "evaluation.prompts=4"
    )  # fmt: skip
    # evaluated: data, base, two iterations = 4 x 4 scored, 3 x 4 made; sampled: 2 x 24
    assert play(config) == "60 images sampled, 6 optimizer steps, 16 images scored"
    past, folder = PastRun.open(str(tmp_path), "tiny"), RunsRoot(tmp_path).run("tiny")
    base, first, second = past.record["stages"]
    average = read_manifest(folder.iteration(2).opponent)
    assert average is not None
    assert average.identity["opponent"] == base["digest"]
    assert average.identity["iterate"] == first["digest"]
    assert (second["start_digest"], second["opponent_digest"]) == (first["digest"], average.content_digest)
    assert past.round_of(2).opponent.folder == folder.iteration(2).opponent
    assert training_request(past, "iteration-02").reference_digest == average.content_digest
    assert "trajectory" in read_table(folder.iteration(2).samples(0)).column_names
    assert print_status(tmp_path, "tiny", verify=True)
    assert play(config) == "0 images sampled, 0 optimizer steps, 0 images scored"
    assert lineage(folder, "iteration-02", hash_bytes=True).problems == ()
    shutil.rmtree(folder.iteration(2).opponent)
    assert lineage(folder, "iteration-02").problems == ("tiny/iteration-02/opponent is missing",)
