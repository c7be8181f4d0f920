"""`vote` on the command line: what cannot be voted on is one line; results come without a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from spin.core.layout import RunsRoot
from spin.vote.booth import open_booth
from tests.flows.command_line import type_in
from tests.flows.conftest import Played


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("other",), "no run 'other' in"),
        (("tiny", "--models", "base", "nothing"), "--models: run 'tiny' has no scored model 'nothing'; models: base,"),
        (("tiny", "--voter", "../me"), "--voter: expected 1 to 32 letters"),
    ],
)
def test_what_cannot_be_voted_on_is_one_line(played: Played, words: tuple[str, ...], line: str) -> None:
    assert line in type_in(played.root.parent, "vote", *words).line


def test_results_come_from_the_files_of_a_real_run(copy: Callable[[], Played]) -> None:
    run = copy()
    answer = type_in(run.root.parent, "vote", "tiny", "--results")
    assert (answer.code, answer.out) == (0, "nobody has voted on run 'tiny' yet; spin-diffusion vote tiny asks\n")
    booth = open_booth(run.root, "tiny", models=("base", "iteration-02"), prompts=4, voter="anna")
    for pair, choice in zip(booth.pairs, ("left", "right", "neither", "left"), strict=True):
        assert booth.vote(pair.key, choice)
    broken = next(RunsRoot(run.root).run("tiny").votes.rglob("vote-*.parquet"))
    answer = type_in(run.root.parent, "vote", "tiny", "--results")
    assert "SPIN 2  base" in answer.out
    assert "Aesthetic" in answer.out
    broken.write_bytes(b"torn")
    answer = type_in(run.root.parent, "vote", "tiny", "--results")
    assert "bytes differ from the manifest" in answer.err
    assert type_in(run.root.parent, "lineage", "tiny", "--json").code == 0  # votes are no part of the run's numbers


def test_what_people_voted_lies_in_the_folder_of_the_run(copy: Callable[[], Played]) -> None:
    run = copy()
    booth = open_booth(run.root, "tiny", models=None, prompts=None, voter="anna")
    assert len(booth.pairs) == 8
    booth.vote(booth.pairs[0].key, "left")
    (file,) = (path for path in (run.root / "tiny" / "votes").rglob("*.parquet"))
    assert file.parent.parent == Path(run.root / "tiny" / "votes" / "anna")
