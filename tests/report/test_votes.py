"""Votes counted by hand: who won, who could not say, which judge agrees."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from spin.core.ballots import Choice, Vote, cast_vote
from spin.core.comparison import wilson
from spin.core.layout import RunFolder, RunsRoot
from spin.report.reading import read_run
from spin.report.request import ReportRequest
from spin.report.room import run as write_report
from spin.report.terminal import print_votes
from spin.report.votes import Tally, tallies, unread_votes
from tests.report.conftest import SEED, RunBuilder, sections


@pytest.fixture
def built(builder: RunBuilder) -> RunBuilder:
    builder.stages = ("base", "sft", "iteration-01")
    builder.build()
    return builder


def folder_of(built: RunBuilder) -> RunFolder:
    return RunsRoot(built.root).run(built.name)


def digest(built: RunBuilder, stage: str) -> str:
    return next(s["digest"] for s in built.record()["stages"] if s["name"] == stage)


def put(built: RunBuilder, index: int, winner: str | None, *, newer: str = "iteration-01", voter: str = "anna") -> None:
    """A vote on a prompt between sft and a newer model, the newer one left on even prompts."""
    sides = [digest(built, newer), digest(built, "sft")]
    left, right = sides if index % 2 == 0 else sides[::-1]
    choice: Choice = "neither"
    if winner is not None:
        choice = "left" if left == digest(built, winner) else "right"
    prompt = built.prompt_ids[index]
    vote = Vote(prompt, built.captions[index], SEED, 0, "test", "test.single.0f3a", left, right, choice, voter, index)
    assert cast_vote(folder_of(built), "ballot", vote)


def counted(built: RunBuilder) -> list[Tally]:
    return tallies(read_run(runs_root=built.root, run=built.name))


def test_wins_losses_and_undecided_votes_are_counted_apart(built: RunBuilder) -> None:
    for index, winner in enumerate(["iteration-01"] * 3 + ["sft"] + [None] * 2):
        put(built, index, winner)
    put(built, 0, "sft", voter="ben")
    (row,) = counted(built)
    assert (row.first, row.second, row.evaluation, row.voters) == ("SFT", "SPIN 1", "test.single", ("anna", "ben"))
    assert (row.wins, row.losses, row.undecided) == (3, 2, 2)
    assert row.share == wilson(0.6, 5)


def test_a_judge_agrees_where_it_prefers_the_same_picture(built: RunBuilder) -> None:
    before, after = (built.values(stage, "aesthetic") for stage in ("sft", "iteration-01"))
    better = ["iteration-01" if after[i] > before[i] else "sft" for i in range(8)]
    for index, winner in enumerate(better[:6]):
        put(built, index, winner)
    for index in (6, 7):
        put(built, index, "sft" if better[index] == "iteration-01" else "iteration-01")
    found = {agreement.judge: agreement for agreement in counted(built)[0].agreement}["Aesthetic"]
    assert (found.same, found.votes) == (6, 8)  # six as the judge, two against it
    assert found.share == wilson(0.75, 8)


def test_pairs_that_a_judge_scores_alike_are_left_out(built: RunBuilder) -> None:
    before, after = (built.values(stage, "attributes") for stage in ("sft", "iteration-01"))
    for index in range(8):
        put(built, index, "iteration-01")
    found = {agreement.judge: agreement for agreement in counted(built)[0].agreement}
    told = sum(before[i] != after[i] for i in range(8))
    assert (found["Attributes"].votes if "Attributes" in found else 0) == told
    assert found["Aesthetic"].votes == 8


def test_questions_stand_apart_and_strangers_are_told(built: RunBuilder) -> None:
    put(built, 0, "iteration-01")
    put(built, 1, "base", newer="base")
    assert [(row.first, row.second) for row in counted(built)] == [("base", "SFT"), ("SFT", "SPIN 1")]
    record = built.record()
    record["stages"] = record["stages"][:2]
    built.write_record(record)
    assert [(row.first, row.second) for row in counted(built)] == [("base", "SFT")]
    run = read_run(runs_root=built.root, run=built.name)
    assert unread_votes(run) == ["1 votes are of models that the run no longer has"]


def test_nobody_could_say(built: RunBuilder) -> None:
    put(built, 0, None)
    (row,) = counted(built)
    assert (row.share, row.agreement, row.undecided) == (None, (), 1)
    assert "cannot say" in printed([row])


def test_the_page_has_a_section_where_there_are_votes_and_its_tables_are_files(built: RunBuilder) -> None:
    for index in range(4):
        put(built, index, "iteration-01")
    result = write_report(ReportRequest(built.root, built.name))
    assert result.page is not None
    page = result.page.read_text("utf-8")
    assert "votes" in sections(page)
    assert "<td>4 of 4</td><td>100 % [51, 100]</td>" in page
    lines = (result.page.parent / "tables" / "votes.csv").read_text().splitlines()
    assert lines[1].startswith("SPIN 1,SFT,test.single,1,4,0,0,1,0.51")
    judges = (result.page.parent / "tables" / "agreement.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in judges[1:]} >= {"Alignment", "Aesthetic"}


def printed(rows: list[Tally]) -> str:
    stream = StringIO()
    print_votes(rows, Console(file=stream, width=80))
    return stream.getvalue()


def test_the_tables_fit_a_terminal(built: RunBuilder) -> None:
    for index in range(4):
        put(built, index, "iteration-01")
    text = printed(counted(built))
    assert "4 of 4  100 % [51, 100]" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "agreement of judges with people" in text
