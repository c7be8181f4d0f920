"""A vote counts for the pair that was seen; what is on disk decides what comes next."""

from __future__ import annotations

from spin.core.ballots import read_votes
from spin.core.layout import RunsRoot
from tests.report.conftest import PROMPTS, RunBuilder
from tests.vote.conftest import Open


def test_a_vote_names_the_models_of_the_sides_that_were_seen(built: RunBuilder, enter: Open) -> None:
    booth = enter()
    digests = {stage["name"]: stage["digest"] for stage in built.record()["stages"]}
    first, second = sorted((digests["sft"], digests["iteration-01"]))
    for pair in booth.pairs:
        assert booth.vote(pair.key, "left")
    votes, _ = read_votes(RunsRoot(built.root).run(built.name))
    assert [vote.order for vote in votes] == list(range(PROMPTS))
    for vote, pair in zip(votes, booth.pairs, strict=True):
        assert (vote.prompt_id, vote.draw, vote.voter) == (pair.prompt_id, 0, "anna")
        assert (vote.left, vote.right) == ((second, first) if pair.second_left else (first, second))
        assert vote.evaluation == "test.single.0f3a"
        assert vote.benchmark == "test"


def test_a_second_click_does_not_vote_on_a_pair_that_was_not_seen(enter: Open) -> None:
    booth = enter(prompts=3)
    seen = booth.pairs[0].key
    assert booth.vote(seen, "left")
    assert not booth.vote(seen, "right")
    assert not booth.vote(booth.pairs[2].key, "right")
    assert booth.done == 1


def test_who_comes_again_goes_on_where_the_files_end(enter: Open) -> None:
    booth = enter(prompts=3)
    booth.vote(booth.pairs[0].key, "neither")
    again = enter(prompts=3)
    assert again.done == 1
    assert again.next_pair() == again.pairs[1]
    assert enter(prompts=3, voter="ben").done == 0
    assert enter(prompts=5).done == 1  # more prompts keep what was voted


def test_the_last_vote_can_be_taken_back_and_cast_anew(built: RunBuilder, enter: Open) -> None:
    booth = enter(prompts=2)
    assert not booth.undo()
    booth.vote(booth.pairs[0].key, "left")
    booth.vote(booth.pairs[1].key, "left")
    assert booth.next_pair() is None
    assert booth.undo()
    assert booth.next_pair() == booth.pairs[1]
    assert booth.vote(booth.pairs[1].key, "right")
    votes, _ = read_votes(RunsRoot(built.root).run(built.name))
    assert [(vote.order, vote.choice) for vote in votes] == [(0, "left"), (1, "right")]


def test_a_vote_of_another_page_of_the_same_voter_stands(enter: Open) -> None:
    one, other = enter(prompts=3), enter(prompts=3)
    key = one.pairs[0].key
    assert one.vote(key, "left")
    assert not other.vote(key, "right")
    assert other.next_pair() == other.pairs[1]


def test_what_is_shown_holds_pixels_and_no_name(enter: Open, built: RunBuilder) -> None:
    booth = enter(prompts=4)
    names = [str(stage[part]) for stage in built.record()["stages"] for part in ("digest", "label", "name")]
    for pair in booth.pairs:
        shown = booth.show(pair)
        assert shown.left.startswith("data:image/png;base64,")
        assert shown.left != shown.right
        assert not [name for name in names if name[:12] in f"{shown.key} {shown.prompt}"]
