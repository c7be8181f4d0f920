"""The prompts that every model is asked, the seeds that all of them start from, and the pictures each prompt gets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.errors import ArtifactError, DataError
from spin.core.layout import RealCache
from spin.core.plan import seed_of
from spin.core.schema import read_batches
from spin.core.store import verify
from spin.evaluate.request import EvaluateRequest


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, the one seed of all its pictures, and the place of its real picture in the file, where it has one."""

    prompt_id: str
    prompt: str
    seed: int
    draws: int = 1  # pictures that a model draws of it
    position: int | None = None
    category: str | None = None
    challenge: str | None = None


@dataclass(frozen=True)
class Picture:
    """One picture that is asked for: the `draw`-th of its prompt."""

    asked: Prompt
    draw: int


def read_prompts(request: EvaluateRequest, *, trusting: bool = False) -> list[Prompt]:
    """The first `max_prompts` prompts; seeds are functions of the prompt, so no model changes them.

    The whole file is verified; pictures stay in it until `real_pictures` takes some.

    Args:
        trusting: as `store.verify`; for those who only count them.
    """
    rows = _prompt_set(request.prompts, trusting) if request.prompts is not None else _held_out(request, trusting)
    return [_asked(request, number, row) for number, row in enumerate(islice(rows, request.max_prompts))]


def pictures_of(prompts: Iterable[Prompt]) -> list[Picture]:
    """Every picture of the prompts, those of one prompt side by side."""
    return [Picture(prompt, draw) for prompt in prompts for draw in range(prompt.draws)]


def real_pictures(request: EvaluateRequest, prompts: Sequence[Prompt]) -> list[bytes]:
    """The real PNG of each prompt."""
    assert request.real is not None
    positions = [prompt.position for prompt in prompts if prompt.position is not None]
    table = take_rows(RealCache(request.real).held_out_images, positions, "image")
    return [image["bytes"] for image in table["image"].to_pylist()]


def take_rows(path: Path, positions: Sequence[int], column: str) -> pa.Table:
    """One column of the rows at `positions`, in their order; row groups without any of them stay unread."""
    wanted = np.asarray(positions)
    order, start, pieces = np.argsort(wanted), 0, []
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                inside = order[(wanted[order] >= start) & (wanted[order] < end)]
                if len(inside):
                    pieces.append(file.read_row_group(group, columns=[column]).take(pa.array(wanted[inside] - start)))
                start = end
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"cannot be read as Parquet: {reason}", where=str(path), fix="run again") from error
    return pa.concat_tables(pieces).take(pa.array(np.argsort(order)))


_Row = tuple[str, str, str | None, str | None, int | None]  # id, prompt, category, challenge, position


def _prompt_set(path: Path, trusting: bool) -> Iterator[_Row]:
    verify(path, trusting=trusting)
    for batch in read_batches(path, ["prompt_id", "prompt", "category", "challenge"]):
        yield from (
            (row["prompt_id"], row["prompt"], row["category"], row["challenge"], None) for row in batch.to_pylist()
        )


def _held_out(request: EvaluateRequest, trusting: bool) -> Iterator[_Row]:
    assert request.real is not None
    path = RealCache(request.real).held_out_images
    verify(path, trusting=trusting)
    rows = (row for batch in read_batches(path, ["sample_id", "caption", "split"]) for row in batch.to_pylist())
    found = False
    for position, row in enumerate(rows):
        if row["split"] == request.benchmark:
            found = True
            yield row["sample_id"], row["caption"], None, None, position
    if not found:
        raise DataError(f"no rows in split {request.benchmark!r}", where=str(path), fix="raise data.held_out_share")


def _asked(request: EvaluateRequest, number: int, row: _Row) -> Prompt:
    prompt_id, prompt, category, challenge, position = row
    if request.protocol == "best_of_n":  # the paper seeds its generator anew with one number for every prompt
        seed, draws = request.seed, request.images_per_prompt
    else:
        seed = seed_of("evaluate", request.seed, prompt_id)
        draws = request.diversity_images if number < request.diversity_prompts else 1
    draws = 1 if request.subject is None else draws
    return Prompt(prompt_id, prompt, seed, draws, position, category, challenge)
