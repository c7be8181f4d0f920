"""A checkpoint -> held-out images -> scores. The same seeds for every model; nothing is scored twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from spin.core.environment import bit_class
from spin.core.errors import DataError
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.plan import identity_hash, padded_batches, seed_of
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
from spin.core.statistics import frechet_distance_of_features, pairwise_diversity
from spin.core.store import commit, is_whole, verify
from spin.diffusion.checkpoint import latent_scaling, load_schedule, load_solver, load_unet, load_vae
from spin.diffusion.latents import read_real
from spin.diffusion.noise import initial_noise
from spin.diffusion.objectives import denoising_errors
from spin.diffusion.pictures import decode_image, encode_png
from spin.diffusion.sampler import decode_latents, sample_latents
from spin.diffusion.text import TextEmbeddings, prompt_hash
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.scorers import features, per_image, scorer
from spin.miniature.dataset import clean_reference
from spin.miniature.judges import judges_digest

Pixels = npt.NDArray[np.uint8]
_IMAGE_SCHEMA: Final = image_schema(
    [
        pa.field("prompt_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("seed", pa.uint64()),
        pa.field("image", IMAGE_TYPE),
    ],
    ["image"],
)
SET_SCORERS: Final = ("frechet", "frechet_clean", "diversity")


@dataclass(frozen=True)
class HeldOutRow:
    prompt_id: str
    prompt: str
    seed: int
    png: bytes


def run(request: EvaluateRequest, *, progress: Progress = silent) -> EvaluateResult:
    """Make, score and measure what is missing of one evaluation."""
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    folder = evaluation_folder(request)
    identity = {"subject": request.subject_digest, "settings": _settings(request)}
    rows = _held_out_rows(request)
    made = 0
    if not is_whole(folder.images(0), identity=identity):
        _make_images(folder, rows, request, identity, progress)
        made = len(rows) if request.subject is not None else 0
    parts = [folder.scores(0), folder.set_metrics]
    scored = 0
    if not all(is_whole(path, identity=identity) for path in parts):
        _score(folder, rows, request, identity)
        scored = len(rows)
    if request.subject is not None and not is_whole(folder.denoising, identity=identity):
        _measure_denoising(folder, rows, request, identity)
    return EvaluateResult(folder.path, made, scored, time.perf_counter() - start)


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


def _held_out_rows(request: EvaluateRequest) -> list[HeldOutRow]:
    path = request.real / "held-out.parquet"
    verify(path)
    rows = [row for row in read_table(path).to_pylist() if row["split"] == request.split]
    if not rows:
        raise DataError(f"no rows in split {request.split!r}", where=str(path), fix="raise data.held_out_share")
    found = [
        HeldOutRow(
            row["sample_id"],
            row["caption"],
            seed_of("evaluate", request.seed, row["sample_id"]),
            row["image"]["bytes"],
        )
        for row in rows
    ]
    return found[: request.max_prompts]


def _make_images(
    folder: EvaluationFolder,
    rows: Sequence[HeldOutRow],
    request: EvaluateRequest,
    identity: dict[str, Any],
    progress: Progress,
) -> None:
    start = time.perf_counter()
    pictures = [row.png for row in rows] if request.subject is None else _sample(rows, request, progress)
    table = pa.Table.from_pylist(
        [
            {"prompt_id": r.prompt_id, "prompt": r.prompt, "seed": r.seed, "image": {"bytes": p, "path": None}}
            for r, p in zip(rows, pictures, strict=True)
        ],
        schema=_IMAGE_SCHEMA,
    )
    commit(
        folder.images(0),
        lambda path: write_table(path, table),
        kind="evaluation-images",
        digest=content_digest,
        identity=identity,
        environment=lambda: {**_environment(request), "images": len(rows), "seconds": time.perf_counter() - start},
    )


def _sample(rows: Sequence[HeldOutRow], request: EvaluateRequest, progress: Progress) -> list[bytes]:
    assert request.subject is not None
    unet = load_unet(request.subject, device=request.device, dtype=request.dtype)
    vae = load_vae(request.subject, device=request.device, dtype=request.dtype)
    solver = load_solver(request.subject)
    embeddings = TextEmbeddings.read(request.real / "text.parquet", device=request.device, dtype=request.dtype)
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    pictures: list[bytes] = []
    for batch in padded_batches(range(len(rows)), request.batch_size):
        text = embeddings.of([prompt_hash(rows[i].prompt) for i in batch])
        latents = sample_latents(
            unet,
            solver,
            noise=initial_noise([rows[i].seed for i in batch], shape).to(text),
            text=text,
            unconditional=embeddings.empty,
            guidance_scale=request.guidance_scale,
            num_inference_steps=request.num_inference_steps,
        )
        pictures += [encode_png(pixels) for pixels in decode_latents(vae, latents).numpy()]
        progress(min(len(pictures), len(rows)), len(rows))
    return pictures[: len(rows)]


def _score(
    folder: EvaluationFolder, rows: Sequence[HeldOutRow], request: EvaluateRequest, identity: dict[str, Any]
) -> None:
    start = time.perf_counter()
    verify(folder.images(0))
    images = np.stack([decode_image(row["image"]["bytes"]) for row in read_table(folder.images(0)).to_pylist()])
    prompts = [row.prompt for row in rows]
    scores = [
        {"prompt_id": row.prompt_id, "prompt": row.prompt, "seed": row.seed, "scorer": name, "score": float(value)}
        for name in per_image(request.scorers)
        for row, value in zip(rows, scorer(name).score(images, prompts), strict=True)
    ]
    metrics = [
        {"metric": name, "value": value, "images": len(images)} for name, value in _set_metrics(images, rows, request)
    ]
    for path, schema, found in ((folder.scores(0), SCORES, scores), (folder.set_metrics, SET_METRICS, metrics)):
        commit(
            path,
            lambda target, schema=schema, found=found: write_rows(target, schema, found),  # type: ignore[misc]
            kind=path.parent.name,
            digest=content_digest,
            identity=identity,
            environment=lambda: {"images": len(images), "seconds": time.perf_counter() - start},
        )


def _set_metrics(images: Pixels, rows: Sequence[HeldOutRow], request: EvaluateRequest) -> list[tuple[str, float]]:
    """Numbers of the whole set, each against the real held-out images or on its own."""
    own = features(images)
    found = []
    if "frechet" in request.scorers and request.subject is not None:
        real = features(np.stack([decode_image(row.png) for row in rows]))
        found.append(("frechet", frechet_distance_of_features(own, real)))
    if "frechet_clean" in request.scorers:
        clean = features(clean_reference([row.prompt for row in rows]))
        found.append(("frechet_clean", frechet_distance_of_features(own, clean)))
    if "diversity" in request.scorers:
        found.append(("diversity", pairwise_diversity(own)))
    return found


def _measure_denoising(
    folder: EvaluationFolder, rows: Sequence[HeldOutRow], request: EvaluateRequest, identity: dict[str, Any]
) -> None:
    """The paper's own convergence criterion: error on fixed (image, t, noise) draws; it needs no judge."""
    assert request.subject is not None
    start = time.perf_counter()
    unet = load_unet(request.subject, device=request.device, dtype=request.dtype)
    schedule = load_schedule(request.subject, request.device)
    embeddings = TextEmbeddings.read(request.real / "text.parquet", device=request.device, dtype=request.dtype)
    latents = _latents(rows, request)
    draws = [(row, draw) for row in range(len(rows)) for draw in range(request.denoising_draws)]
    errors = []
    for batch in padded_batches(range(len(draws)), request.batch_size):
        picked = [draws[i] for i in batch]
        seeds = [seed_of("denoising", rows[row].prompt_id, draw) for row, draw in picked]
        noise = initial_noise(seeds, tuple(latents.shape[1:])).to(request.device)
        timesteps = torch.tensor([seed % schedule.steps for seed in seeds], device=request.device)
        text = embeddings.of([prompt_hash(rows[row].prompt) for row, _ in picked])
        with torch.no_grad():
            error = denoising_errors(
                unet, latents[[row for row, _ in picked]].to(text), noise.to(text), timesteps, text, schedule
            )
        found = zip(picked, timesteps.tolist(), error.tolist(), strict=True)
        errors += [
            {"prompt_id": rows[row].prompt_id, "draw": draw, "timestep": t, "error": e} for (row, draw), t, e in found
        ]
    commit(
        folder.denoising,
        lambda path: write_rows(path, DENOISING, errors[: len(draws)]),
        kind="denoising",
        digest=content_digest,
        identity=identity,
        environment=lambda: {**_environment(request), "draws": len(draws), "seconds": time.perf_counter() - start},
    )


def _latents(rows: Sequence[HeldOutRow], request: EvaluateRequest) -> torch.Tensor:
    """Posterior means of the held-out images in the model's scaled space, (N, C, h, w)."""
    assert request.subject is not None
    scaling, shift = latent_scaling(request.subject)
    latents = read_real(request.real / "real.parquet", [row.prompt_id for row in rows], scaling=scaling, shift=shift)
    return latents.pick(range(len(rows)), None)


def _environment(request: EvaluateRequest) -> dict[str, object]:
    return bit_class(device=request.device, dtype=request.dtype, batch_size=request.batch_size, threads=request.threads)
