"""A checkpoint -> held-out images -> scores. The same seeds for every model; nothing is scored twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import torch

from spin.core.environment import bit_class
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.plan import identity_hash
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
from spin.evaluate.held_out import HeldOutRow, read_held_out
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.scorers import per_image, refuse_strangers, scorer
from spin.evaluate.scoring import score_pictures, set_metrics
from spin.evaluate.subject import Subject
from spin.miniature.judges import judges_digest

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
    """Make, score and measure what is missing or damaged of one evaluation."""
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    rows = read_held_out(request)
    refuse_strangers(request.scorers, [row.prompt for row in rows])
    work = _Evaluation(request, evaluation_folder(request), rows, progress)
    made, scored = work.make_images(), work.score()
    work.measure_denoising()
    return EvaluateResult(work.folder.path, made, scored, time.perf_counter() - start)


def evaluation_folder(request: EvaluateRequest) -> EvaluationFolder:
    """Where an evaluation stands: a function of what is evaluated and how, shared by runs."""
    settings = identity_hash(sorted(_settings(request).items()))[:12]
    benchmark = f"{request.data_digest[:8]}-{request.split}"
    return RunsRoot(request.runs_root).evaluation(request.subject_digest, benchmark, "single", settings)


def _settings(request: EvaluateRequest) -> dict[str, Any]:
    names = (
        "data_digest", "split", "max_prompts", "guidance_scale", "num_inference_steps", "seed", "batch_size",
        "denoising_draws", "dtype",
    )  # fmt: skip
    return {
        **{name: getattr(request, name) for name in names},
        "scorers": list(request.scorers),
        "judges": judges_digest(),
    }


@dataclass
class _Evaluation:
    """One evaluation at work; the model is loaded where something of it is missing, and then once."""

    request: EvaluateRequest
    folder: EvaluationFolder
    rows: Sequence[HeldOutRow]
    progress: Progress
    start: float = field(default_factory=time.perf_counter)

    @cached_property
    def subject(self) -> Subject:
        assert self.request.subject is not None
        return Subject.load(self.request.subject, self.request)

    @cached_property
    def identity(self) -> dict[str, Any]:
        return {"subject": self.request.subject_digest, "settings": _settings(self.request)}

    def make_images(self) -> int:
        """Draw the pictures, or take the real ones; the number drawn."""
        path = self.folder.images(0)
        if stands(path, self.identity):
            return 0
        real = self.request.subject is None
        pictures = [row.png for row in self.rows] if real else self.subject.draw(self.rows, self.request, self.progress)
        table = pa.Table.from_pylist(
            [
                {"prompt_id": r.prompt_id, "prompt": r.prompt, "seed": r.seed, "image": {"bytes": p, "path": None}}
                for r, p in zip(self.rows, pictures, strict=True)
            ],
            schema=_IMAGE_SCHEMA,
        )
        self._commit(path, lambda target: write_table(target, table), "evaluation-images", self.identity)
        return 0 if real else len(self.rows)

    def score(self) -> int:
        """Score the pictures; the number scored. Scores of other pictures give way."""
        images = verify(self.folder.images(0))
        identity = {**self.identity, "images": images.content_digest}
        if stands(self.folder.scores(0), identity) and stands(self.folder.set_metrics, identity):
            return 0
        pictures = [row["image"]["bytes"] for row in read_table(self.folder.images(0)).to_pylist()]
        names, size = self.request.scorers, self.request.batch_size
        judges = [scorer(name) for name in per_image(names)]
        scored = score_pictures(pictures, self.rows, judges, batch_size=size)
        is_data = self.request.subject is None
        metrics = list(set_metrics(scored.features, self.rows, names, is_data=is_data, batch_size=size))
        self._commit(self.folder.scores(0), lambda path: write_rows(path, SCORES, scored.rows), "scores", identity)
        self._commit(
            self.folder.set_metrics, lambda path: write_rows(path, SET_METRICS, metrics), "set-metrics", identity
        )
        return len(self.rows)

    def measure_denoising(self) -> None:
        """Error on fixed (image, t, noise) draws; real pictures have no model to measure."""
        if self.request.subject is None or stands(self.folder.denoising, self.identity):
            return
        errors = list(self.subject.measure(self.rows, self.request, self.progress))
        self._commit(
            self.folder.denoising, lambda path: write_rows(path, DENOISING, errors), "denoising", self.identity
        )

    def _commit(self, path: Path, write: Callable[[Path], None], kind: str, identity: dict[str, Any]) -> None:
        asked = self.request
        place = bit_class(
            device=asked.device, dtype=asked.dtype, batch_size=asked.batch_size, threads=asked.threads
        )  # fmt: skip
        counts = {"images": len(self.rows), "seconds": time.perf_counter() - self.start}
        commit(
            path, write, kind=kind, digest=content_digest, identity=identity, environment=lambda: {**place, **counts}
        )
        self.start = time.perf_counter()
