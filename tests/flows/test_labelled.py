"""Diffusion-DPO through the hall: the data's own losers, no plan and no opponent's images."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.children import training_request
from flows.past_run import PastRun
from flows.requests import Requests
from flows.status import print_status
from spin.core.config import load_config
from spin.core.layout import RealCache, RunsRoot
from spin.report.lineage import lineage
from tests.flows.conftest import play, tiny


@pytest.mark.slow
def test_a_run_on_labelled_losers_samples_nothing_to_train_on(tmp_path: Path) -> None:
    config = tiny(
        tmp_path,
        "train.losers=labelled",
        "iterations=1",
        "sft.steps=0",
        "evaluation.prompts=4",
        "execution.report_page=true",
    )
    # evaluated: data, base, DPO = 3 x 4 scored, 2 x 4 made; nothing is made for the training
    assert play(config) == "8 images sampled, 3 optimizer steps, 12 images scored"
    past = PastRun.open(str(tmp_path), "tiny")
    assert [model.label for model in past.models] == ["base", "DPO"]
    base, trained = past.record["stages"]
    assert trained["opponent_digest"] == base["digest"]
    assert trained["samples"] is None
    folder = RunsRoot(tmp_path).run("tiny")
    assert not folder.iteration(1).plan.exists()
    assert print_status(tmp_path, "tiny", verify=True)
    asked = training_request(past, "iteration-01")  # as a worker asks it, from the record alone
    assert (asked.losers, asked.start_digest) == (RealCache(past.prepared.real).losers, base["digest"])
    assert play(config) == "0 images sampled, 0 optimizer steps, 0 images scored"
    assert "DPO" in folder.report.read_text()
    behind = lineage(folder, "DPO")
    assert behind.problems == ()
    assert "losers" in {link.id for link in behind.links}


@pytest.mark.parametrize(("overrides", "asked"), [([], False), (["train.losers=labelled"], True)])
def test_losers_are_asked_for_where_they_are_trained_on(overrides: list[str], asked: bool) -> None:
    config = load_config("miniature", overrides=overrides)
    assert Requests(config, "cpu").prepare(Path("base"), "b").losers is asked
    supervised = load_config("miniature", overrides=[*overrides, "iterations=0"])
    assert not Requests(supervised, "cpu").prepare(Path("base"), "b").losers
