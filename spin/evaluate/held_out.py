"""The held-out rows that every model is asked for, and the seeds that all of them start from."""

from __future__ import annotations

from dataclasses import dataclass

from spin.core.errors import DataError
from spin.core.layout import RealCache
from spin.core.plan import seed_of
from spin.core.schema import read_table
from spin.core.store import verify
from spin.evaluate.request import EvaluateRequest


@dataclass(frozen=True)
class HeldOutRow:
    """A caption, the real picture of it, and the seed of every model's picture of it."""

    prompt_id: str
    prompt: str
    seed: int
    png: bytes


def read_held_out(request: EvaluateRequest) -> list[HeldOutRow]:
    """The first `max_prompts` rows of the split; a seed is a function of the row, so no model changes it."""
    path = RealCache(request.real).held_out_images
    verify(path)
    rows = [row for row in read_table(path).to_pylist() if row["split"] == request.split]
    if not rows:
        raise DataError(f"no rows in split {request.split!r}", where=str(path), fix="raise data.held_out_share")
    return [
        HeldOutRow(
            row["sample_id"],
            row["caption"],
            seed_of("evaluate", request.seed, row["sample_id"]),
            row["image"]["bytes"],
        )
        for row in rows[: request.max_prompts]
    ]
