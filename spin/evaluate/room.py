"""A checkpoint -> pictures of prompts -> scores, shard by shard. Equal seeds for every model; nothing is scored twice.

A part that stands is never made again; one that is missing or damaged is. The bits of a picture depend on
its seed and the batch shape, not on the split into shards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch

from spin.core.approximation import rows_asked
from spin.core.config_rules import SET_METRICS as SET_METRIC_NAMES
from spin.core.counted import network_calls
from spin.core.errors import ArtifactError, DataError
from spin.core.layout import EvaluationFolder
from spin.core.memory import explaining_shortage
from spin.core.plan import shard_count
from spin.core.progress import Progress, silent
from spin.core.safety import Safety
from spin.core.schema import (
    DENOISING,
    IMAGE_TYPE,
    QUARANTINE,
    SAFETY,
    SCORES,
    SET_METRICS,
    UNSAFE,
    content_digest,
    image_schema,
    read_table,
    tensor_column,
    tensor_field,
    write_rows,
    write_table,
)
from spin.core.store import commit, stands, verify
from spin.diffusion.attention import refuse_missing_kernel
from spin.diffusion.safety import unsafe_pictures
from spin.evaluate.asked import Picture, Prompt, pictures_of, read_prompts, real_pictures
from spin.evaluate.checking import check_pictures, class_of
from spin.evaluate.miniature import refuse_strangers
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.scoring import Features, features_of, score_pictures, set_metrics
from spin.evaluate.shards import (
    Part,
    evaluation_folder,
    missing_parts,
    named_shards,
    part_identity,
    part_path,
    prompts_in_shard,
    require_cover,
    set_identity,
)
from spin.evaluate.subject import Floats, resident_subject

_IMAGE_SCHEMA: Final = image_schema(
    [
        pa.field("prompt_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("category", pa.string()),
        pa.field("challenge", pa.string()),
        pa.field("seed", pa.uint64()),
        pa.field("draw", pa.int32()),
        pa.field("image", IMAGE_TYPE),
    ],
    ["image"],
)


def run(request: EvaluateRequest, *, progress: Progress = silent) -> EvaluateResult:
    """Make what the named shards lack, then finish where asked to; `progress` hears of images done and to do."""
    with explaining_shortage(request.memory_knobs, device=request.device):
        return _run(request, progress)


def _run(request: EvaluateRequest, progress: Progress) -> EvaluateResult:
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    refuse_missing_kernel(request.attention, device=request.device, dtype=request.dtype)
    prompts = read_prompts(request)
    refuse_strangers(request.scorers, [prompt.prompt for prompt in prompts])
    work = _Evaluation(request, evaluation_folder(request), prompts)
    lacking = {shard: missing_parts(request, shard, check=stands) for shard in named_shards(request, work.shards)}
    missing = {shard: parts for shard, parts in lacking.items() if parts}
    total, done = sum(len(work.pictures_of(shard)) for shard in missing), 0
    for shard, parts in missing.items():
        count = len(work.pictures_of(shard))
        work.make_shard(shard, parts, _within(progress, done, count, total, _passes(request, parts)))
        done += count
        progress(done, total)
    if request.finish:
        work.finish()
    checked = check_pictures(request, prompts, progress)
    return EvaluateResult(
        work.folder.path, work.made, work.scored, time.perf_counter() - start, tuple(missing),
        checked.pictures, checked.differing, checked.largest_pixel_difference, checked.largest_score_difference,
        checked.notes, work.flagged,
    )  # fmt: skip


def _passes(request: EvaluateRequest, parts: Sequence[Part]) -> dict[str, int]:
    """Forward passes of the model for an image: what a shard's time goes into, by the note of its progress."""
    asked = network_calls(request.scheduler, request.num_inference_steps)
    calls = request.approximation.calls(asked, guided=request.guidance_scale > 1)
    return {
        "drawn": rows_asked(calls) if {"images", "latents"} & set(parts) else 0,
        # Four judges take 3 % of the FLOPs of a picture.
        "scored": 1 if {"scores", "quarantine"} & set(parts) else 0,
        "denoised": request.denoising_draws if "denoising" in parts else 0,
    }


def _within(progress: Progress, before: int, count: int, images: int, passes: Mapping[str, int]) -> Progress:
    """Progress inside a shard of `count` images as those of the call's `images`; one is done with its last pass."""

    def hear(done: int, total: int, note: str = "") -> None:
        earlier = sum(passes[before_it] for before_it in takewhile(lambda kind: kind != note, passes))
        passed = earlier * total + passes[note] * done
        progress(before + count * passed // (total * sum(passes.values())), images, note)

    return hear


@dataclass
class _Evaluation:
    """One evaluation at work; the model is loaded where something of it is missing, and then once."""

    request: EvaluateRequest
    folder: EvaluationFolder
    prompts: Sequence[Prompt]
    made: int = 0  # pictures drawn; real ones are taken, not made
    scored: int = 0
    flagged: int = 0
    features: dict[int, Features] = field(default_factory=dict)  # of the shards that this call scored
    start: float = field(default_factory=time.perf_counter)  # of the part at work

    @property
    def shards(self) -> int:
        return shard_count(len(self.prompts), prompts_in_shard(self.request))

    @property
    def is_data(self) -> bool:
        return self.request.subject is None

    def prompts_of(self, shard: int) -> Sequence[Prompt]:
        size = prompts_in_shard(self.request)
        return self.prompts[shard * size : (shard + 1) * size]

    def pictures_of(self, shard: int) -> Sequence[Picture]:
        return pictures_of(self.prompts_of(shard))

    def make_shard(self, shard: int, parts: Sequence[Part], progress: Progress) -> None:
        """Make the missing `parts`, each committed when it is done."""
        if {"images", "latents"} & set(parts):
            self._draw(shard, progress)
        # Asked anew: what pictures came decides whether scores stand.
        if set(missing_parts(self.request, shard, check=stands)) & {"quarantine", "scores"}:
            self._score(shard, progress)
        if self.request.safety is not None and "safety" in missing_parts(self.request, shard, check=stands):
            self._look(shard, self.request.safety)
        if "denoising" in parts:
            self._measure(shard, progress)

    def finish(self) -> None:
        """Measure the whole set, where the numbers of these very pictures do not stand."""
        require_cover(self.request, self.shards)
        identity = set_identity(self.request, self.shards)
        if stands(self.folder.set_metrics, identity):
            return
        self._refuse_bad_pictures()
        rows: Iterable[dict[str, Any]] = ()
        if set(self.request.scorers) & set(SET_METRIC_NAMES):
            own = np.concatenate([self._own_features(shard) for shard in range(self.shards)])
            real = None if self.is_data or self.request.real is None else self._real_features
            rows = set_metrics(self.request, own, [prompt.prompt for prompt in self.prompts], real=real)
        metrics = list(rows)
        self._commit(
            self.folder.set_metrics,
            lambda path: write_rows(path, SET_METRICS, metrics),
            "set-metrics",
            identity,
            images=sum(len(self.pictures_of(shard)) for shard in range(self.shards)),
        )

    def _refuse_bad_pictures(self) -> None:
        """Raise where more than `max_bad_share` of the pictures cannot be judged."""
        rejected = []
        for path in map(self.folder.quarantine, range(self.shards)):
            verify(path)
            rejected += read_table(path).to_pylist()
        pictures = sum(len(self.pictures_of(shard)) for shard in range(self.shards))
        if len(rejected) <= self.request.max_bad_share * pictures:
            return
        first = rejected[0]
        raise DataError(
            f"{len(rejected)} of {pictures} pictures cannot be judged; first: {first['origin']}: {first['reason']},"
            f" {first['detail']}", where=str(self.folder.quarantine(0).parent),
            fix=f"look at the model, or raise evaluation.max_bad_share from {self.request.max_bad_share:g}",
        )  # fmt: skip

    def _draw(self, shard: int, progress: Progress) -> None:
        """Draw the pictures, or take the real ones."""
        pictures = self.pictures_of(shard)
        drawn: Sequence[bytes | None]
        if self.is_data:
            drawn = real_pictures(self.request, self.prompts_of(shard))
        else:
            kept: list[Floats] | None = [] if self.request.store_latents else None
            drawn = resident_subject(self.request).draw(pictures, self.request, progress, kept)
            if kept is not None:
                self._keep_latents(shard, np.concatenate(kept)[: len(pictures)])
            self.made += len(pictures)
        table = pa.Table.from_pylist(
            [
                {
                    "prompt_id": p.asked.prompt_id, "prompt": p.asked.prompt, "category": p.asked.category,
                    "challenge": p.asked.challenge, "seed": p.asked.seed, "draw": p.draw,
                    "image": None if data is None else {"bytes": data, "path": None},
                }
                for p, data in zip(pictures, drawn, strict=True)
            ],
            schema=_IMAGE_SCHEMA,
        )  # fmt: skip
        self._commit_part(shard, "images", lambda path: write_table(path, table), "evaluation-images")

    def _keep_latents(self, shard: int, latents: Floats) -> None:
        pictures = self.pictures_of(shard)
        fields = [
            pa.field("prompt_id", pa.string()), pa.field("draw", pa.int32()),
            tensor_field("latent", latents.shape[1:], "float32"),
        ]  # fmt: skip
        columns = [[p.asked.prompt_id for p in pictures], [p.draw for p in pictures], tensor_column(latents)]
        table = pa.table(columns, schema=pa.schema(fields))
        self._commit_part(shard, "latents", lambda path: write_table(path, table), "evaluation-latents")

    def _score(self, shard: int, progress: Progress) -> None:
        found = score_pictures(self.request, self.pictures_of(shard), self._drawn(shard), progress)
        self.features[shard] = found.features
        self.scored += len(self.pictures_of(shard))
        self._commit_part(shard, "quarantine", lambda path: write_rows(path, QUARANTINE, found.rejected), "quarantine")
        self._commit_part(shard, "scores", lambda path: write_rows(path, SCORES, found.rows), "scores")

    def _look(self, shard: int, safety: Safety) -> None:
        """Ask the safety checker about every picture that there is."""
        drawn = self._drawn(shard)
        found = iter(unsafe_pictures([data for data in drawn if data is not None], safety, self.request.device))
        marks = [data is not None and next(found) for data in drawn]
        rows = [
            {"prompt_id": p.asked.prompt_id, "draw": p.draw, UNSAFE: mark}
            for p, mark in zip(self.pictures_of(shard), marks, strict=True)
        ]
        self.flagged += sum(marks)
        self._commit_part(shard, "safety", lambda path: write_rows(path, SAFETY, rows), "safety")

    def _measure(self, shard: int, progress: Progress) -> None:
        """Error on fixed (image, t, noise) draws."""
        errors = list(resident_subject(self.request).measure(self.prompts_of(shard), self.request, progress))
        self._commit_part(shard, "denoising", lambda path: write_rows(path, DENOISING, errors), "denoising")

    def _drawn(self, shard: int) -> list[bytes | None]:
        """A shard's pictures as they stand; None where the model gave none."""
        path = self.folder.images(shard)
        verify(path)
        table = read_table(path, ["prompt_id", "draw", "image"])
        expected = [(picture.asked.prompt_id, picture.draw) for picture in self.pictures_of(shard)]
        if list(zip(table["prompt_id"].to_pylist(), table["draw"].to_pylist(), strict=True)) != expected:
            raise ArtifactError(
                "does not hold the prompts of its shard", where=str(path), fix="delete it; it is made again"
            )
        return [None if image is None else image["bytes"] for image in table["image"].to_pylist()]

    def _own_features(self, shard: int) -> Features:
        if shard in self.features:
            return self.features[shard]
        firsts = zip(self.pictures_of(shard), self._drawn(shard), strict=True)
        return features_of(self.request, [data for picture, data in firsts if picture.draw == 0 and data is not None])

    def _real_features(self) -> Features:
        shards = range(self.shards)
        return np.concatenate(
            [features_of(self.request, real_pictures(self.request, self.prompts_of(shard))) for shard in shards]
        )

    def _commit_part(self, shard: int, part: Part, write: Callable[[Path], None], kind: str) -> None:
        identity = part_identity(self.request, shard, part)
        self._commit(part_path(self.folder, shard, part), write, kind, identity, images=len(self.pictures_of(shard)))

    def _commit(
        self, path: Path, write: Callable[[Path], None], kind: str, identity: dict[str, Any], *, images: int
    ) -> None:
        commit(
            path,
            write,
            kind=kind,
            digest=content_digest,
            identity=identity,
            environment=lambda: {
                **class_of(self.request),
                "images": images,
                "seconds": time.perf_counter() - self.start,
            },
        )
        self.start = time.perf_counter()
