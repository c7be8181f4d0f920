"""Who plays an iteration is written down and found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.past_run import PastRun
from flows.requests import Model
from flows.rounds import Round, note_round, noted_round
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
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
