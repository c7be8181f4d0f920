"""The first steps of a stage, made again: the same numbers from the same inputs, others from others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spin.core.layout import StageFolder
from spin.core.schema import TRAINING_LOG, read_table, write_rows
from spin.core.store import commit, discard, read_manifest
from spin.train.request import TrainRequest
from spin.train.room import run
from tests.world import fingerprint

LINEAR = {"steps": 6, "lr_schedule": "linear", "state_every_steps": 2}  # its rate depends on the number of steps


@pytest.fixture
def trained(make_request: Callable[..., TrainRequest]) -> TrainRequest:
    request = make_request(settings=LINEAR)
    run(request)
    return request


def test_first_steps_come_again_bit_for_bit_and_nothing_is_written(trained: TrainRequest) -> None:
    before = fingerprint(trained.stage)
    heard: list[tuple[int, int]] = []
    result = run(replace(trained, check_steps=3), progress=lambda done, total, note="": heard.append((done, total)))
    assert (result.checked, result.differing, result.largest_difference, result.steps) == (3, 0, 0.0, 0)
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert result.notes == ()
    assert fingerprint(trained.stage) == before


def test_a_log_that_was_not_made_from_these_inputs_is_found(trained: TrainRequest) -> None:
    log = StageFolder(trained.stage).training_log
    rows, manifest = read_table(log).to_pylist(), read_manifest(log)
    assert manifest is not None
    rows[1]["loss"] += 0.125
    rows[5]["loss"] += 7.0  # past the steps that are looked at

    def write(path: Path) -> None:
        write_rows(path, TRAINING_LOG, rows)

    discard(log)
    commit(log, write, kind="log", identity=manifest.identity)
    result = run(replace(trained, check_steps=3))
    assert (result.checked, result.differing, result.largest_difference) == (3, 1, 0.125)
    assert run(replace(trained, check_steps=99)).largest_difference == 7.0


def test_another_class_of_bits_is_told(trained: TrainRequest) -> None:
    smaller = replace(trained.settings, micro_batch_size=4)
    result = run(replace(trained, check_steps=1, settings=smaller))
    assert result.notes == ("made where bits are others (batch_size: 8 -> 4)",)
    assert result.largest_difference < 1e-3
