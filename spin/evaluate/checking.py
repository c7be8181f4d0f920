"""Pictures that stand, drawn and scored again: does an evaluation hold what its model and its judges give?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from spin.core.config_rules import DIVERSITY
from spin.core.difference import TOLD, picture_difference
from spin.core.environment import bit_class, other_class
from spin.core.layout import EvaluationFolder
from spin.core.plan import identity_hash
from spin.core.progress import Progress
from spin.core.schema import read_table
from spin.core.store import verify
from spin.evaluate.asked import Picture, Prompt, pictures_of, real_pictures
from spin.evaluate.request import EvaluateRequest
from spin.evaluate.scoring import score_pictures
from spin.evaluate.shards import evaluation_folder, prompts_in_shard
from spin.evaluate.subject import resident_subject

Key = tuple[str, int]  # prompt id, draw


@dataclass(frozen=True)
class Checked:
    pictures: int = 0
    differing: int = 0
    largest_pixel_difference: float = 0.0
    largest_score_difference: float = 0.0
    notes: tuple[str, ...] = ()


def check_pictures(request: EvaluateRequest, prompts: Sequence[Prompt], progress: Progress) -> Checked:
    """Draw and score `check_pictures` pictures again and compare them with what stands; writes nothing."""
    chosen = pictures_to_check(prompts, request.check_pictures)
    if not chosen:
        return Checked()
    folder, size = evaluation_folder(request), prompts_in_shard(request)
    places = {prompt.prompt_id: number // size for number, prompt in enumerate(prompts)}
    shards = sorted({places[picture.asked.prompt_id] for picture in chosen})
    if request.subject is None:
        drawn: Sequence[bytes | None] = real_pictures(request, [picture.asked for picture in chosen])
    else:
        drawn = resident_subject(request).draw(chosen, request, progress)
    pixels = _pixels_apart(folder, shards, chosen, drawn)
    scores = _scores_apart(folder, shards, request, chosen, drawn)
    apart = [key for key in pixels if pixels[key] or scores[key]]
    return Checked(
        pictures=len(chosen),
        differing=len(apart),
        largest_pixel_difference=min(TOLD, max(pixels.values())),
        largest_score_difference=min(TOLD, max(scores.values())),
        notes=_other_class(request, folder, shards[0]),
    )


def class_of(request: EvaluateRequest) -> dict[str, object]:
    """The class within which an evaluation has equal bits."""
    return bit_class(
        device=request.device, dtype=request.dtype, batch_size=request.batch_size, threads=request.threads,
        attention=request.attention,
    )  # fmt: skip


def pictures_to_check(prompts: Sequence[Prompt], count: int) -> list[Picture]:
    """Up to `count` pictures, picked by a hash of their identity, in the order of the prompts."""
    pictures = pictures_of(prompts)
    chosen = nsmallest(count, pictures, key=lambda picture: identity_hash("check", *_key(picture)))
    return [picture for picture in pictures if picture in chosen]


def _pixels_apart(
    folder: EvaluationFolder, shards: Sequence[int], chosen: Sequence[Picture], drawn: Sequence[bytes | None]
) -> dict[Key, float]:
    standing: dict[Key, bytes | None] = {}
    for shard in shards:
        verify(folder.images(shard))
        for row in read_table(folder.images(shard), ["prompt_id", "draw", "image"]).to_pylist():
            standing[row["prompt_id"], row["draw"] or 0] = (row["image"] or {}).get("bytes")
    return {
        _key(picture): picture_difference(standing.get(_key(picture)), data)
        for picture, data in zip(chosen, drawn, strict=True)
    }


def _scores_apart(
    folder: EvaluationFolder,
    shards: Sequence[int],
    request: EvaluateRequest,
    chosen: Sequence[Picture],
    drawn: Sequence[bytes | None],
) -> dict[Key, float]:
    """Of each picture the score that is furthest from what stands; diversity is of a prompt, not of a picture."""
    standing: list[dict[str, Any]] = []
    for shard in shards:
        verify(folder.scores(shard))
        standing += read_table(folder.scores(shard), ["prompt_id", "draw", "scorer", "score"]).to_pylist()
    before = {(row["prompt_id"], row["draw"] or 0, row["scorer"]): row["score"] for row in standing}
    now = {(r["prompt_id"], r["draw"], r["scorer"]): r["score"] for r in score_pictures(request, chosen, drawn).rows}
    found = dict.fromkeys(map(_key, chosen), 0.0)
    for prompt, draw, scorer in {*before, *now}:
        if (prompt, draw) in found and scorer != DIVERSITY:
            old, new = before.get((prompt, draw, scorer)), now.get((prompt, draw, scorer))
            apart = TOLD if old is None or new is None else abs(old - new)
            found[prompt, draw] = max(found[prompt, draw], apart)
    return found


def _other_class(request: EvaluateRequest, folder: EvaluationFolder, shard: int) -> tuple[str, ...]:
    note = other_class(class_of(request), verify(folder.images(shard)).environment)
    return (note,) if note else ()


def _key(picture: Picture) -> Key:
    return picture.asked.prompt_id, picture.draw
