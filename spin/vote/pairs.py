"""Which pictures are put side by side, in which order, on which sides: a function of who votes on what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from spin.core.ballots import pair_key
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import EvaluationFolder
from spin.core.plan import identity_hash, seed_of
from spin.core.record import Record
from spin.core.schema import read_table
from spin.core.store import verify


@dataclass(frozen=True)
class Contestant:
    """One of the two models, and its evaluation."""

    label: str
    digest: str
    folder: EvaluationFolder


@dataclass(frozen=True)
class Pair:
    """The same prompt, seed and number of the picture, drawn by both models."""

    prompt_id: str
    prompt: str
    seed: int
    draw: int
    shard: str  # name of the file that holds it, in either evaluation
    second_left: bool = False

    @property
    def key(self) -> str:
        return pair_key(self.prompt_id, self.seed, self.draw)


def contestants(record: Record, root: Path, names: tuple[str, str] | None) -> tuple[Contestant, Contestant]:
    """Two models of a run by stage or label, evaluated alike; by default the start of the game and the last model."""
    scored = {str(s["name"]): s for s in record["stages"] if s.get("evaluation") and s.get("digest")}
    known = scored | {str(stage["label"]): stage for stage in scored.values()}
    wanted = names or _default(scored, str(record["run"]))
    unknown = next((name for name in wanted if name not in known), None)
    if unknown is not None:
        fix = f"models: {', '.join(scored) or 'none yet'}"
        raise ConfigError(f"run {record['run']!r} has no scored model {unknown[:64]!r}", where="--models", fix=fix)
    first, second = (known[name] for name in wanted)
    if first["digest"] == second["digest"]:
        raise ConfigError("name one model twice", where="--models", fix="name two that differ")
    for key, path in _evaluations(first).items():
        other = _evaluations(second).get(key)
        if other is not None and Path(other).name == Path(path).name:
            a, b = (EvaluationFolder(root / found) for found in (path, other))
            return Contestant(first["label"], first["digest"], a), Contestant(second["label"], second["digest"], b)
    raise ConfigError("share no evaluation with the same settings", where="--models", fix="evaluate both alike")


def pairs_of(first: Contestant, second: Contestant, *, voter: str, prompts: int | None) -> list[Pair]:
    """The first picture of each prompt that both models drew from the same seed, in the voter's own order.

    Which prompts these are is the same for every voter: the first `prompts` in the order of a hash.
    """
    theirs = {(pair.prompt_id, pair.seed, pair.draw): pair for pair in _drawn(second.folder)}
    shared = [p for p in _drawn(first.folder) if p.draw == 0 and (p.prompt_id, p.seed, p.draw) in theirs]
    if not shared:
        raise ConfigError("drew no prompt from the same seed", where="--models", fix="evaluate both alike")
    chosen = sorted(shared, key=lambda pair: identity_hash("vote prompt", pair.prompt_id))[:prompts]
    question = ballot_of(first, second)
    ordered = sorted(chosen, key=lambda pair: identity_hash("vote order", voter, question, pair.prompt_id))
    return [replace(p, second_left=seed_of("vote side", voter, question, p.prompt_id) % 2 == 1) for p in ordered]


def ballot_of(first: Contestant, second: Contestant) -> str:
    """Name of the question: these two models, whichever is named first, on this evaluation."""
    return identity_hash("ballot", first.folder.path.name, *sorted((first.digest, second.digest)))[:12]


def _default(scored: dict[str, dict[str, Any]], run: str) -> tuple[str, str]:
    """The model that iteration 1 started from, and the last one."""
    names = list(scored)
    if len(names) < 2:
        raise ConfigError(f"run {run!r} has no two scored models", fix="go on with the run")
    first = next((name for name in names if name.startswith("iteration-")), names[-1])
    start = next((n for n in names if scored[n]["digest"] == scored[first].get("opponent_digest")), names[0])
    return start, names[-1]


def _evaluations(stage: dict[str, Any]) -> dict[str, str]:
    """By benchmark and protocol, that of the verdict first."""
    return {Path(stage["evaluation"]).name.rpartition(".")[0]: stage["evaluation"], **(stage.get("evaluations") or {})}


def _drawn(folder: EvaluationFolder) -> Iterator[Pair]:
    """Every picture that stands; the files are verified."""
    for path in sorted(folder.images(0).parent.glob("shard-*.parquet")):
        verify(path)
        table = read_table(path)
        rows = table.filter(pc.is_valid(table["image"])).drop_columns(["image"]).to_pylist()
        for row in rows:
            yield Pair(row["prompt_id"], row["prompt"], row["seed"], row.get("draw") or 0, path.name)


def picture(contestant: Contestant, pair: Pair) -> bytes:
    """The picture of a pair as its file holds it."""
    path = contestant.folder.images(0).with_name(pair.shard)
    table = read_table(path)
    for row in table.filter(pc.equal(table["prompt_id"], pair.prompt_id)).to_pylist():
        if (row["prompt_id"], row.get("draw") or 0) == (pair.prompt_id, pair.draw):
            return bytes(row["image"]["bytes"])
    raise ArtifactError(f"holds no picture of {pair.prompt_id}", where=str(path), fix="run again")
