"""Who plays an iteration is written down and found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.past_run import PastRun
from flows.requests import Model, Requests
from flows.rounds import Round, note_round, noted_round, play_against
from spin.core.config import load_config
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.train.request import AverageRequest
from tests.flows.conftest import Played

BASE, FIRST = (Model(name, name, Path(name), digest * 64) for name, digest in (("base", "b"), ("iteration-01", "1")))
STAGE = RunsRoot(Path("runs")).run("r").iteration(2)


def test_players_come_back_from_the_record() -> None:
    record = {"run": "r"}
    note_round(record, STAGE, Round(FIRST, BASE))
    assert noted_round(record, STAGE, [BASE, FIRST]) == Round(start=FIRST, opponent=BASE)


def test_a_round_that_was_not_begun_names_those_that_were() -> None:
    with pytest.raises(ConfigError, match="run 'r' has not begun iteration-02; begun: none yet"):
        noted_round({"run": "r"}, STAGE, [BASE])


def test_a_player_that_is_gone_is_named() -> None:
    record = {"run": "r"}
    note_round(record, STAGE, Round(FIRST, BASE))
    with pytest.raises(ConfigError, match="has no model 111111111111 any more"):
        noted_round(record, STAGE, [BASE])


def test_each_iteration_of_a_run_starts_from_the_model_before(played: Played) -> None:
    past = PastRun.open(str(played.root), "tiny")
    models = {model.name: model for model in past.models}
    assert past.round_of(1) == Round(models["sft"], models["sft"])
    assert past.round_of(2) == Round(models["iteration-01"], models["iteration-01"])


def at_round(tmp_path: Path, opponent: str, start: Model) -> tuple[Round, Requests]:
    """Who plays iteration 3 after base -> iteration-01 -> iteration-02, each against the model before."""
    config = load_config("miniature", overrides=[f"train.opponent={opponent}", f"run.root={tmp_path}"])
    requests = Requests(config, "cpu")
    second = replace(FIRST, name="iteration-02", digest="2" * 64)
    record = {
        "run": "r",
        "stages": [
            {"name": m.name, "label": m.label, "checkpoint": m.name, "digest": m.digest} for m in (BASE, FIRST, second)
        ],
    }
    note_round(record, requests.folder.iteration(2), Round(start=FIRST, opponent=BASE))
    return play_against(requests, record, 3, start), requests


def test_the_opponent_is_the_start_or_the_iterate_before(tmp_path: Path) -> None:
    newest = replace(FIRST, name="iteration-02", digest="2" * 64)
    assert at_round(tmp_path, "previous", newest)[0] == Round(newest, newest)
    earlier, _ = at_round(tmp_path, "earlier", newest)
    assert (earlier.start, earlier.opponent.digest) == (newest, FIRST.digest)


def test_an_average_goes_on_from_the_opponent_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AverageRequest] = []
    monkeypatch.setattr("flows.rounds.average", lambda request: asked.append(request) or "a" * 64)
    newest = replace(FIRST, name="iteration-02", digest="2" * 64)
    found, requests = at_round(tmp_path, "average", newest)
    folder = requests.folder.iteration(3).opponent
    assert (found.start, found.opponent.digest, found.opponent.folder) == (newest, "a" * 64, folder)
    (request,) = asked
    assert (request.opponent_digest, request.iterate_digest, request.decay) == (BASE.digest, newest.digest, 0.5)
    gone_back, _ = at_round(tmp_path, "average", BASE)  # the gate went back to where the opponent stands
    assert gone_back == Round(BASE, BASE)


@pytest.mark.parametrize("opponent", ["previous", "earlier", "average"])
def test_in_the_first_round_the_start_plays_against_itself(opponent: str) -> None:
    requests = Requests(load_config("miniature", overrides=[f"train.opponent={opponent}"]), "cpu")
    assert play_against(requests, {"run": "r", "stages": []}, 1, BASE) == Round(BASE, BASE)


def test_a_training_names_its_opponent_only_where_it_is_another(played: Played) -> None:
    past = PastRun.open(str(played.root), "tiny")
    first, second = past.models[-2:]
    asked = [past.requests.train_iteration(2, past.prepared, second, opponent) for opponent in (None, second, first)]
    assert [request.reference_digest for request in asked] == [None, None, first.digest]
    assert asked[2].reference == first.folder
