"""Pairs with a marked image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from spin.core.layout import StageFolder
from spin.core.schema import UNSAFE, read_table
from spin.sample.room import run as sample
from spin.train.loop import Loop
from spin.train.processes import Processes
from spin.train.request import TrainRequest
from spin.train.room import run
from tests.checkers import safety
from tests.world import World


def marked(world: World, folder: Path, name: str) -> StageFolder:
    stage = world.stage(folder)
    sample(world.sample_request(stage, safety=safety(name)))
    return stage


def loop_of(request: TrainRequest) -> Loop:
    return Loop(request, Processes("cpu"))


def test_marked_images_are_trained_on_unless_they_are_to_be_dropped(world: World, tmp_path: Path) -> None:
    stage = marked(world, tmp_path, "bright")
    kept = loop_of(world.train_request(stage))
    assert kept.step_of.reader.pairs.unsafe == frozenset()
    dropped = loop_of(world.train_request(stage, settings={"drop_unsafe": True}))
    marks = read_table(stage.samples(0))[UNSAFE].to_pylist()
    assert dropped.step_of.reader.pairs.unsafe == {row for row, mark in enumerate(marks) if mark}


def test_a_dropped_pair_teaches_nothing_and_the_others_what_they_teach_anyway(world: World, tmp_path: Path) -> None:
    stage = marked(world, tmp_path, "bright")
    kept, dropped = (
        loop_of(world.train_request(stage, settings={"drop_unsafe": drop})).step_of for drop in (False, True)
    )
    visits = [replace(visit) for visit in _visits(world, stage)]
    weights = dropped.reader.pairs.weights(visits)
    assert 0 < weights.sum() < len(visits)
    assert torch.equal(dropped.measure(visits).loss, kept.measure(visits).loss * weights)


def test_a_stage_of_dropped_pairs_alone_leaves_the_weights(world: World, tmp_path: Path) -> None:
    stage = marked(world, tmp_path, "everything")
    run(world.train_request(stage, settings={"drop_unsafe": True, "weight_decay": 0.0}))
    rows = read_table(stage.training_log).to_pylist()
    assert {row["gradient_norm"] for row in rows} == {0.0}


def _visits(world: World, stage: StageFolder) -> list:
    from spin.core.plan import visits

    return list(visits(rows=24, count=24, draws=1, run_seed=0, stage=stage.name))
