"""What people preferred, and how often each judge agrees with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from spin.core.ballots import Vote, read_votes
from spin.core.comparison import wilson
from spin.core.statistics import Estimate
from spin.report.reading import Evaluation, Run, Stage
from spin.report.scoring import title
from spin.report.subjects import judges_of

Preference = Mapping[tuple[str, int], float]  # a judge's scores by prompt and number of the picture


@dataclass(frozen=True)
class Agreement:
    """A judge and people on the same pairs; a pair to whose pictures the judge gives one score is left out."""

    judge: str  # its title
    same: int
    votes: int
    share: Estimate


@dataclass(frozen=True)
class Tally:
    """One question: does the later model draw better than the earlier one?"""

    first: str  # label of the earlier model
    second: str
    evaluation: str  # benchmark and protocol
    voters: tuple[str, ...]
    wins: int  # votes for the later one
    losses: int
    undecided: int
    share: Estimate | None  # of the later one among decided votes; None where there is none
    agreement: tuple[Agreement, ...]

    @property
    def decided(self) -> int:
        return self.wins + self.losses


def tallies(run: Run) -> list[Tally]:
    """Every question that people of this run voted on, in the order of its models."""
    votes, _ = read_votes(run.folder)
    places = {stage.digest: position for position, stage in enumerate(run.stages)}

    def question(vote: Vote) -> tuple[str, int, int]:
        first, second = sorted((places[vote.left], places[vote.right]))
        return vote.evaluation, first, second

    known = sorted((vote for vote in votes if {vote.left, vote.right} <= places.keys()), key=question)
    return [
        _tally(run.stages[first], run.stages[second], evaluation, list(group))
        for (evaluation, first, second), group in groupby(known, key=question)
    ]


def unread_votes(run: Run) -> list[str]:
    """A line for each vote that is damaged, or of models that the run no longer has."""
    votes, notices = read_votes(run.folder)
    digests = {stage.digest for stage in run.stages}
    strangers = sum(not {vote.left, vote.right} <= digests for vote in votes)
    return [*notices, *([f"{strangers} votes are of models that the run no longer has"] if strangers else [])]


def _tally(first: Stage, second: Stage, evaluation: str, votes: Sequence[Vote]) -> Tally:
    decided = [vote for vote in votes if vote.preferred is not None]
    wins = sum(vote.preferred == second.digest for vote in decided)
    return Tally(
        first=first.label,
        second=second.label,
        evaluation=evaluation.rpartition(".")[0],
        voters=tuple(sorted({vote.voter for vote in votes})),
        wins=wins,
        losses=len(decided) - wins,
        undecided=len(votes) - len(decided),
        share=wilson(wins / len(decided), len(decided)) if decided else None,
        agreement=tuple(_agreements(_found(first, evaluation), _found(second, evaluation), second.digest, decided)),
    )


def _agreements(first: Evaluation, second: Evaluation, digest: str, decided: Sequence[Vote]) -> list[Agreement]:
    found = []
    for judge in judges_of({*first.scores} & {*second.scores}):
        before, after = _scores(first, judge), _scores(second, judge)
        verdicts = []
        for vote in decided:
            key = vote.prompt_id, vote.draw
            if key in before and key in after and before[key] != after[key]:
                verdicts.append((after[key] > before[key]) == (vote.preferred == digest))
        if verdicts:
            same, count = sum(verdicts), len(verdicts)
            found.append(Agreement(title(judge), same, count, wilson(same / count, count)))
    return found


def _found(stage: Stage, name: str) -> Evaluation:
    """The evaluation of a stage whose pictures were voted on."""
    every = (stage.evaluation, *stage.further.values())
    return next((e for e in every if e.folder is not None and e.folder.path.name == name), Evaluation())


def _scores(evaluation: Evaluation, judge: str) -> Preference:
    return {(row.prompt, row.draw): row.value for row in evaluation.scores[judge] if row.value is not None}
