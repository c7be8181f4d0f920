"""What people voted: each vote a committed file of its own, so that a kill loses none and an undo takes one away.

A ballot is one question put to a voter many times: two models on the prompts of one evaluation.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, cast, get_args

import pyarrow as pa

from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import RunFolder
from spin.core.plan import identity_hash
from spin.core.schema import content_digest, read_table, write_rows
from spin.core.store import commit, discard, verify

Choice = Literal["left", "right", "neither"]
CHOICES: Final = get_args(Choice)
VOTES: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("seed", pa.uint64()),  # both pictures started from
        ("draw", pa.int32()),  # number of the picture among those of its prompt
        ("benchmark", pa.string()),
        ("evaluation", pa.string()),  # name of its folder: benchmark, protocol and hash of all settings
        ("left", pa.string()),  # digest of the model whose picture stood there
        ("right", pa.string()),
        ("choice", pa.string()),  # left, right or neither
        ("voter", pa.string()),
        ("order", pa.int32()),  # how many votes of the voter on this ballot came before
    ]
)
_VOTER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True)
class Vote:
    prompt_id: str
    prompt: str
    seed: int
    draw: int
    benchmark: str
    evaluation: str
    left: str
    right: str
    choice: Choice
    voter: str
    order: int

    @property
    def pair(self) -> str:
        """Name of what was voted on."""
        return pair_key(self.prompt_id, self.seed, self.draw)

    @property
    def preferred(self) -> str | None:
        """Digest of the model that was preferred; None where the voter could not say."""
        return {"left": self.left, "right": self.right}.get(self.choice)


def pair_key(prompt_id: str, seed: int, draw: int) -> str:
    return identity_hash("pair", prompt_id, seed, draw)[:16]


def check_voter(name: str) -> str:
    if not _VOTER.fullmatch(name):
        expected = "expected 1 to 32 letters, digits, '.', '_' or '-', no mark in front"
        raise ConfigError(f"{expected}; got {name[:40]!r}", where="--voter", fix="name yourself in that way")
    return name


def cast_vote(folder: RunFolder, ballot: str, vote: Vote) -> bool:
    """Write a vote down; False where the pair has one already. The time stands in the manifest alone."""
    done = commit(
        folder.vote(vote.voter, ballot, vote.pair),
        lambda target: write_rows(target, VOTES, [asdict(vote)]),
        kind="vote",
        digest=content_digest,
        identity={"ballot": ballot, "voter": vote.voter, "pair": vote.pair},
        environment=lambda: {"time": datetime.now(UTC).isoformat(timespec="seconds")},
    )
    return done.won


def take_back(folder: RunFolder, ballot: str, vote: Vote) -> None:
    """Take a vote away, as if it had not been cast."""
    discard(folder.vote(vote.voter, ballot, vote.pair))


def read_votes(folder: RunFolder, *, voter: str = "*", ballot: str = "*") -> tuple[list[Vote], list[str]]:
    """Votes by voter, ballot and order; and a line for each file that is damaged, which is left out."""
    votes: list[Vote] = []
    notices: list[str] = []
    for manifest in sorted(folder.votes.glob(f"{voter}/{ballot}/vote-*.parquet.manifest.json")):
        path = manifest.with_name(manifest.name.removesuffix(".manifest.json"))
        try:
            votes.append(_read(path))
        except ArtifactError as error:
            notices.append(f"{path.relative_to(folder.path)}: {error.message}")
    return sorted(votes, key=lambda vote: (vote.voter, vote.evaluation, vote.order)), notices


def _read(path: Path) -> Vote:
    verify(path)
    rows = read_table(path).to_pylist()
    if len(rows) != 1 or rows[0].keys() != set(VOTES.names) or rows[0]["choice"] not in CHOICES:
        raise ArtifactError("is no vote", where=str(path), fix="delete it")
    return Vote(**{**rows[0], "choice": cast(Choice, rows[0]["choice"])})
