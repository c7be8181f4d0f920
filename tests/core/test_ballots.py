"""A vote is on disk when it is cast, once for each pair, and its time stands in the manifest alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from spin.core.ballots import VOTES, Vote, cast_vote, check_voter, read_votes, take_back
from spin.core.errors import ConfigError
from spin.core.layout import RunFolder, RunsRoot
from spin.core.schema import read_table
from spin.core.store import read_manifest

VOTE = Vote("p1", "a red heart", 7, 0, "test", "test.single.0f3a", "a" * 64, "b" * 64, "left", "anna", 0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunsRoot(tmp_path).run("run")


def test_a_vote_is_a_small_file_without_a_time_in_it(folder: RunFolder) -> None:
    assert cast_vote(folder, "ballot", VOTE)
    path = folder.vote("anna", "ballot", VOTE.pair)
    assert read_table(path).schema.equals(VOTES)
    first, manifest = hashlib.sha256(path.read_bytes()).hexdigest(), read_manifest(path)
    assert manifest is not None
    assert list(manifest.environment) == ["time"]
    take_back(folder, "ballot", VOTE)
    cast_vote(folder, "ballot", VOTE)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == first
    assert read_votes(folder) == ([VOTE], [])


def test_a_pair_has_one_vote_of_a_voter(folder: RunFolder) -> None:
    assert cast_vote(folder, "ballot", VOTE)
    assert not cast_vote(folder, "ballot", replace(VOTE, choice="right", order=1))
    assert cast_vote(folder, "ballot", replace(VOTE, voter="ben"))
    assert cast_vote(folder, "ballot", replace(VOTE, prompt_id="p2", order=1))
    assert [(vote.voter, vote.choice) for vote in read_votes(folder)[0]] == [
        ("anna", "left"), ("anna", "left"), ("ben", "left"),
    ]  # fmt: skip
    assert len(read_votes(folder, voter="ben")[0]) == 1


def test_a_vote_that_is_taken_back_is_gone(folder: RunFolder) -> None:
    cast_vote(folder, "ballot", VOTE)
    take_back(folder, "ballot", VOTE)
    assert read_votes(folder) == ([], [])
    assert not folder.vote("anna", "ballot", VOTE.pair).exists()


def test_damage_is_named_and_left_out(folder: RunFolder) -> None:
    cast_vote(folder, "ballot", VOTE)
    path = folder.vote("anna", "ballot", VOTE.pair)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    votes, notices = read_votes(folder)
    assert votes == []
    assert notices == [f"votes/anna/ballot/{path.name}: bytes differ from the manifest"]
    assert cast_vote(folder, "ballot", VOTE)  # what is damaged never wins
    assert read_votes(folder) == ([VOTE], [])


def test_the_preferred_model_is_the_one_on_the_chosen_side() -> None:
    preferred = {choice: replace(VOTE, choice=choice).preferred for choice in ("left", "right", "neither")}
    assert preferred == {"left": "a" * 64, "right": "b" * 64, "neither": None}


@pytest.mark.parametrize("name", ["../out", "", "a/b", ".hidden", "x" * 33])
def test_a_voter_has_a_name_that_can_be_a_folder(name: str) -> None:
    assert check_voter("anna-2") == "anna-2"
    with pytest.raises(ConfigError, match="--voter"):
        check_voter(name)
