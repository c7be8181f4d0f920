"""Trackers hear of every step once, and whatever they do the training is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spin.core.config_rules import TRACKERS
from spin.core.layout import StageFolder
from spin.core.requests import to_json
from spin.core.schema import read_table
from spin.train.identity import training_identity
from spin.train.processes import Processes
from spin.train.request import TrainRequest
from spin.train.room import run
from spin.train.trackers import following
from tests.train.test_room import Killed, kill_at, log_of

MakeRequest = Callable[..., TrainRequest]
SETTINGS = {"steps": 6, "state_every_steps": 2, "held_out_every_steps": 3}
BOARD = ("tensorboard",)


def heard(request: TrainRequest) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every event in all files of the stage's TensorBoard folder, by tag."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(StageFolder(request.stage).trackers.glob("events.*")):
        events = EventAccumulator(str(path)).Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    return found


def in_steps(values: list[float]) -> list[tuple[int, float]]:
    return [(step, single(value)) for step, value in enumerate(values, start=1)]


def single(value: float) -> float:
    """As an event holds it."""
    return float(np.float32(value))


def test_tensorboard_shows_what_stands_in_the_log(make_request: MakeRequest) -> None:
    request = make_request(settings=SETTINGS, report_to=BOARD)
    run(request)
    events = heard(request)
    for column in ("loss", "accuracy", "margin", "gradient_norm", "lr"):
        assert events[f"train/{column}"] == in_steps(log_of(request, column))
    held_out = read_table(StageFolder(request.stage).held_out_log).to_pylist()
    shown = {(step, tag): value for tag, pairs in events.items() for step, value in pairs if tag.startswith("held_out")}
    assert shown == {(r["step"], f"held_out/t{r['timestep']:04d}"): single(r["error"]) for r in held_out}
    assert [step for step, _ in events["speed/images_per_second"]] == [1, 2, 3, 4, 5, 6]
    assert "train/jensen_gap" not in events  # null in the log


def test_the_settings_stand_beside_the_curves_in_the_same_folder(make_request: MakeRequest) -> None:
    request = make_request(settings=SETTINGS, report_to=BOARD)
    run(request)
    folder = StageFolder(request.stage).trackers
    assert folder == request.stage.parent / "trackers" / "iteration-01"
    assert all(path.is_file() for path in folder.iterdir())
    (path,) = folder.glob("events.*")
    assert b"beta: 1000.0" in path.read_bytes()


def test_a_stopped_training_tells_no_step_twice(make_request: MakeRequest) -> None:
    whole = make_request("whole", settings=SETTINGS, report_to=BOARD)
    broken = make_request("broken", settings=SETTINGS, report_to=BOARD)
    run(whole)
    for step in (3, 5):  # each time behind the last state
        with pytest.raises(Killed):
            run(broken, progress=kill_at(step))
    run(broken)
    run(broken)  # a finished stage says nothing
    events = heard(broken)
    assert all(count == 1 for pairs in events.values() for count in Counter(step for step, _ in pairs).values())
    same = {tag: sorted(pairs) for tag, pairs in events.items() if not tag.startswith("speed/")}
    assert same == {tag: pairs for tag, pairs in heard(whole).items() if not tag.startswith("speed/")}


@pytest.mark.slow
def test_a_training_that_is_killed_outright_tells_no_step_twice(make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(settings={**SETTINGS, "steps": 12}, report_to=BOARD)
    asked, answer = tmp_path / "request.json", tmp_path / "result.json"
    asked.write_bytes(to_json(request))
    for step in (3, 8):
        with subprocess.Popen(
            [sys.executable, "-m", "spin.train", str(asked), str(answer)], stdout=subprocess.PIPE, text=True
        ) as room:
            assert room.stdout is not None
            assert any(json.loads(line).get("done") == step for line in room.stdout)
            room.kill()
    run(request)
    assert sorted(step for step, _ in heard(request)["train/loss"]) == list(range(1, 13))


def test_a_tracker_that_joins_later_hears_of_the_steps_before(make_request: MakeRequest) -> None:
    with pytest.raises(Killed):
        run(make_request(settings=SETTINGS), progress=kill_at(5))
    request = make_request(settings=SETTINGS, report_to=BOARD)
    run(request)
    assert [step for step, _ in heard(request)["train/loss"]] == [1, 2, 3, 4, 5, 6]


def test_another_training_in_the_folder_begins_anew(make_request: MakeRequest) -> None:
    run(make_request(settings=SETTINGS, report_to=BOARD))
    other = make_request(settings={**SETTINGS, "beta": 500.0}, report_to=BOARD)
    run(other)
    assert heard(other)["train/margin"] == in_steps(log_of(other, "margin"))


def test_trackers_are_no_part_of_what_is_trained(make_request: MakeRequest) -> None:
    plain, followed = make_request("plain"), make_request("followed", report_to=BOARD)
    assert training_identity(plain) == training_identity(followed)
    first, second = run(plain), run(followed)
    assert first.digest == second.digest
    for name in ("train/log.parquet", "train/held_out.parquet"):
        assert (plain.stage / name).read_bytes() == (followed.stage / name).read_bytes()
    assert not StageFolder(plain.stage).trackers.exists()
    assert run(make_request("plain", report_to=BOARD)).steps == 0


class Breaking(GeneralTracker):
    """A service that goes away after two steps."""

    name = "breaking"
    requires_logging_directory = False

    def __init__(self, project: str) -> None:
        super().__init__()
        self.steps: list[int] = []

    @property
    def tracker(self) -> list[int]:
        return self.steps

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        if step == 3:
            raise ConnectionError("connection reset\nby peer")
        self.steps.append(step or 0)


@pytest.fixture
def breaking() -> Iterator[str]:
    LOGGER_TYPE_TO_CLASS["breaking"] = Breaking
    yield "breaking"
    del LOGGER_TYPE_TO_CLASS["breaking"]


def test_a_tracker_that_fails_costs_one_note_and_nothing_else(make_request: MakeRequest, breaking: str) -> None:
    quiet, request = make_request("quiet"), make_request("one", settings=SETTINGS, report_to=(breaking, *BOARD))
    result = run(request)
    (note,) = [line for line in result.health if "tracker" in line]
    assert note == "tracker breaking is left out: connection reset by peer; the run's own log has every step"
    assert [step for step, _ in heard(request)["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert run(quiet).health == ()


def test_a_tracker_that_is_not_installed_here_costs_one_note(make_request: MakeRequest) -> None:
    absent = next(name for name in TRACKERS if name not in sys.modules and name in ("comet_ml", "clearml"))
    result = run(make_request(report_to=(absent,)))
    assert result.steps == 4
    assert f"tracker {absent} is left out: No module named {absent!r}" in result.health[-1]


def test_a_folder_that_cannot_be_made_costs_one_note(make_request: MakeRequest) -> None:
    request = make_request(report_to=("tensorboard", "comet_ml"))
    (request.stage.parent / "trackers").write_text("in the way")
    result = run(request)
    assert result.steps == 4
    assert [line for line in result.health if "tracker" in line] == [result.health[-1]]
    assert "tracker tensorboard, comet_ml is left out: " in result.health[-1]


def test_only_the_first_of_several_processes_has_trackers(make_request: MakeRequest) -> None:
    request = make_request(report_to=BOARD)
    with following(request, {}, Processes("cpu", rank=1, count=2)):
        assert not StageFolder(request.stage).trackers.exists()
    with following(request, {}, Processes("cpu", rank=0, count=2)) as first:
        assert first.notes == []
        assert StageFolder(request.stage).trackers.exists()


def test_the_config_knows_the_trackers_of_accelerate() -> None:
    assert set(TRACKERS) == set(LOGGER_TYPE_TO_CLASS) - {"breaking"}


@pytest.mark.system
def test_tensorboard_is_not_imported_where_nobody_asks() -> None:
    code = "import sys, spin.train.room; print('tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
