"""A voter's way through the pairs: what comes next is what has no vote on disk, so a reload or a kill loses nothing."""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from spin.core.ballots import Choice, Vote, cast_vote, check_voter, read_votes, take_back
from spin.core.layout import RunFolder, RunsRoot
from spin.core.record import read_record
from spin.vote.pairs import Contestant, Pair, ballot_of, contestants, pairs_of, picture

_PIXEL_ART: Final = 96  # a side up to this is shown with sharp pixels, as in the report


@dataclass(frozen=True)
class Shown:
    """What a voter may see of a pair: nothing in it tells which model drew which picture."""

    key: str
    prompt: str
    left: str  # data-URI, pixels alone
    right: str
    is_pixel_art: bool


class Booth:
    """One voter, two models, their pairs, and the votes that stand on disk."""

    def __init__(self, folder: RunFolder, sides: tuple[Contestant, Contestant], voter: str, pairs: list[Pair]) -> None:
        self.pairs, self.voter, self.ballot = pairs, voter, ballot_of(*sides)
        self._folder, self._sides, self._lock = folder, sides, threading.Lock()
        self._read()

    @property
    def done(self) -> int:
        """Pairs of this question that have a vote."""
        return sum(pair.key in self._votes for pair in self.pairs)

    def next_pair(self) -> Pair | None:
        return next((pair for pair in self.pairs if pair.key not in self._votes), None)

    def show(self, pair: Pair) -> Shown:
        left, right = (_pixels(picture(side, pair)) for side in self._ordered(pair))
        return Shown(pair.key, pair.prompt, _uri(left), _uri(right), max(left.size) <= _PIXEL_ART)

    def vote(self, key: str, choice: Choice) -> bool:
        """Vote on the pair that was seen; False where it is not the next one, as after a second click."""
        with self._lock:
            pair = self.next_pair()
            if pair is None or pair.key != key:
                return False
            (left, right), evaluation = self._ordered(pair), self._sides[0].folder
            order = max((vote.order for vote in self._votes.values()), default=-1) + 1
            vote = Vote(
                pair.prompt_id, pair.prompt, pair.seed, pair.draw, evaluation.benchmark, evaluation.path.name,
                left.digest, right.digest, choice, self.voter, order,
            )  # fmt: skip
            won = cast_vote(self._folder, self.ballot, vote)
            self._read()  # what stands counts: another page of the same voter may have been first
            return won

    def undo(self) -> bool:
        """Take the last vote back; False where there is none."""
        with self._lock:
            self._read()
            last = max(self._votes.values(), key=lambda vote: vote.order, default=None)
            if last is not None:
                take_back(self._folder, self.ballot, last)
                self._read()
            return last is not None

    def _ordered(self, pair: Pair) -> tuple[Contestant, Contestant]:
        """Who stands at the left, and who at the right."""
        first, second = self._sides
        return (second, first) if pair.second_left else (first, second)

    def _read(self) -> None:
        votes, _ = read_votes(self._folder, voter=self.voter, ballot=self.ballot)
        self._votes = {vote.pair: vote for vote in votes}


def open_booth(root: Path, run: str, *, models: tuple[str, str] | None, prompts: int | None, voter: str) -> Booth:
    check_voter(voter)
    folder = RunsRoot(root).run(run)
    first, second = contestants(read_record(folder), root, models)
    # Whichever is named first: the same voter must not see the same pair twice, on other sides.
    first, second = sorted((first, second), key=lambda contestant: contestant.digest)
    return Booth(folder, (first, second), voter, pairs_of(first, second, voter=voter, prompts=prompts))


def _pixels(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _uri(image: Image.Image) -> str:
    """Encoded anew: nothing of the file but its pixels."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
