"""A checkpoint -> held-out images -> scores, shard by shard. The same seeds for every model; nothing is scored twice.

A part that stands is never made again; one that is missing or damaged is. The bits of a picture depend on
its seed and the batch shape, not on the split into shards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch

from spin.core.environment import bit_class
from spin.core.errors import ArtifactError
from spin.core.layout import EvaluationFolder
from spin.core.plan import shard_count
from spin.core.progress import Progress, silent
from spin.core.schema import (
    DENOISING,
    IMAGE_TYPE,
    SCORES,
    SET_METRICS,
    content_digest,
    image_schema,
    read_table,
    write_rows,
    write_table,
)
from spin.core.store import commit, stands, verify
from spin.evaluate.held_out import HeldOutRow, read_held_out, real_pictures
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.scorers import per_image, refuse_strangers, scorer
from spin.evaluate.scoring import Features, score_pictures, set_metrics
from spin.evaluate.shards import (
    Part,
    evaluation_folder,
    missing_parts,
    named_shards,
    part_identity,
    part_path,
    require_cover,
    set_identity,
)
from spin.evaluate.subject import resident_subject

_IMAGE_SCHEMA: Final = image_schema(
    [
        pa.field("prompt_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("seed", pa.uint64()),
        pa.field("image", IMAGE_TYPE),
    ],
    ["image"],
)


def run(request: EvaluateRequest, *, progress: Progress = silent) -> EvaluateResult:
    """Make what the named shards lack, then finish where asked to; `progress` hears of images done and to do."""
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    rows = read_held_out(request)
    refuse_strangers(request.scorers, [row.prompt for row in rows])
    work = _Evaluation(request, evaluation_folder(request), rows)
    lacking = {shard: missing_parts(request, shard, check=stands) for shard in named_shards(request, work.shards)}
    missing = {shard: parts for shard, parts in lacking.items() if parts}
    total, done = sum(len(work.rows_of(shard)) for shard in missing), 0
    for shard, parts in missing.items():
        count = len(work.rows_of(shard))
        work.make_shard(shard, parts, _within(progress, done, count, total, _passes(request, parts)))
        done += count
        progress(done, total)
    if request.finish:
        work.finish()
    return EvaluateResult(work.folder.path, work.made, work.scored, time.perf_counter() - start, tuple(missing))


def _passes(request: EvaluateRequest, parts: Sequence[Part]) -> dict[str, int]:
    """Forward passes of the model for an image: what a shard's time goes into, by the note of its progress."""
    passes = request.num_inference_steps * (2 if request.guidance_scale > 1 else 1)
    return {
        "drawn": passes if "images" in parts else 0,
        "denoised": request.denoising_draws if "denoising" in parts else 0,
    }


def _within(progress: Progress, before: int, count: int, images: int, passes: Mapping[str, int]) -> Progress:
    """Progress inside a shard of `count` images as those of the call's `images`; one is done with its last pass."""

    def hear(done: int, total: int, note: str = "") -> None:
        earlier = passes["drawn"] if note == "denoised" else 0
        passed = earlier * total + passes[note] * done
        progress(before + count * passed // (total * sum(passes.values())), images, note)

    return hear


@dataclass
class _Evaluation:
    """One evaluation at work; the model is loaded where something of it is missing, and then once."""

    request: EvaluateRequest
    folder: EvaluationFolder
    rows: Sequence[HeldOutRow]
    made: int = 0  # pictures drawn; real ones are taken, not made
    scored: int = 0
    features: dict[int, Features] = field(default_factory=dict)  # of the shards that this call scored
    start: float = field(default_factory=time.perf_counter)  # of the part at work

    @property
    def shards(self) -> int:
        return shard_count(len(self.rows), self.request.shard_size)

    @property
    def is_data(self) -> bool:
        return self.request.subject is None

    def rows_of(self, shard: int) -> Sequence[HeldOutRow]:
        size = self.request.shard_size
        return self.rows[shard * size : (shard + 1) * size]

    def make_shard(self, shard: int, parts: Sequence[Part], progress: Progress) -> None:
        """Make the missing `parts`, each committed when it is done."""
        if "images" in parts:
            self._draw(shard, progress)
        # Asked anew: what pictures came decides whether scores stand.
        if not stands(self.folder.scores(shard), part_identity(self.request, shard, "scores")):
            self._score(shard)
        if "denoising" in parts:
            self._measure(shard, progress)

    def finish(self) -> None:
        """Measure the whole set, where the numbers of these very pictures do not stand."""
        require_cover(self.request, self.shards)
        identity = set_identity(self.request, self.shards)
        if stands(self.folder.set_metrics, identity):
            return
        own = np.concatenate([self._own_features(shard) for shard in range(self.shards)])
        rows = set_metrics(
            own,
            [row.prompt for row in self.rows],
            self.request.scorers,
            real=None if self.is_data else self._real_features,
            batch_size=self.request.batch_size,
        )
        metrics = list(rows)
        self._commit(
            self.folder.set_metrics,
            lambda path: write_rows(path, SET_METRICS, metrics),
            "set-metrics",
            identity,
            images=len(self.rows),
        )

    def _draw(self, shard: int, progress: Progress) -> None:
        """Draw the pictures, or take the real ones."""
        rows = self.rows_of(shard)
        if self.is_data:
            pictures = real_pictures(self.request, rows)
        else:
            pictures = resident_subject(self.request).draw(rows, self.request, progress)
            self.made += len(rows)
        table = pa.Table.from_pylist(
            [
                {"prompt_id": r.prompt_id, "prompt": r.prompt, "seed": r.seed, "image": {"bytes": p, "path": None}}
                for r, p in zip(rows, pictures, strict=True)
            ],
            schema=_IMAGE_SCHEMA,
        )
        self._commit_part(shard, "images", lambda path: write_table(path, table), "evaluation-images")

    def _score(self, shard: int) -> None:
        rows, pictures = self.rows_of(shard), self._pictures(shard)
        judges = [scorer(name) for name in per_image(self.request.scorers)]
        found = score_pictures(pictures, rows, judges, batch_size=self.request.batch_size)
        self.features[shard] = found.features
        self.scored += len(rows)
        self._commit_part(shard, "scores", lambda path: write_rows(path, SCORES, found.rows), "scores")

    def _measure(self, shard: int, progress: Progress) -> None:
        """Error on fixed (image, t, noise) draws."""
        errors = list(resident_subject(self.request).measure(self.rows_of(shard), self.request, progress))
        self._commit_part(shard, "denoising", lambda path: write_rows(path, DENOISING, errors), "denoising")

    def _pictures(self, shard: int) -> list[bytes]:
        """A shard's pictures as they stand, one for each of its rows."""
        path = self.folder.images(shard)
        verify(path)
        table = read_table(path, ["prompt_id", "image"])
        if table["prompt_id"].to_pylist() != [row.prompt_id for row in self.rows_of(shard)]:
            raise ArtifactError(
                "does not hold the prompts of its shard", where=str(path), fix="delete it; it is made again"
            )
        return [image["bytes"] for image in table["image"].to_pylist()]

    def _own_features(self, shard: int) -> Features:
        return self.features[shard] if shard in self.features else self._features(self._pictures(shard), shard)

    def _real_features(self) -> Features:
        shards = range(self.shards)
        return np.concatenate([self._features(real_pictures(self.request, self.rows_of(s)), s) for s in shards])

    def _features(self, pictures: Sequence[bytes], shard: int) -> Features:
        return score_pictures(pictures, self.rows_of(shard), (), batch_size=self.request.batch_size).features

    def _commit_part(self, shard: int, part: Part, write: Callable[[Path], None], kind: str) -> None:
        identity = part_identity(self.request, shard, part)
        self._commit(part_path(self.folder, shard, part), write, kind, identity, images=len(self.rows_of(shard)))

    def _commit(
        self, path: Path, write: Callable[[Path], None], kind: str, identity: dict[str, Any], *, images: int
    ) -> None:
        asked = self.request
        place = bit_class(
            device=asked.device, dtype=asked.dtype, batch_size=asked.batch_size, threads=asked.threads
        )  # fmt: skip
        commit(
            path,
            write,
            kind=kind,
            digest=content_digest,
            identity=identity,
            environment=lambda: {**place, "images": images, "seconds": time.perf_counter() - self.start},
        )
        self.start = time.perf_counter()
