"""The model that is evaluated: what it draws of the held-out captions, and its denoising error on the real images."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from spin.core.layout import RealCache
from spin.core.plan import padded_batches, prompt_hash, seed_of
from spin.core.progress import Progress
from spin.core.store import read_manifest
from spin.diffusion.checkpoint import latent_scaling, load_schedule, load_solver, load_unet, load_vae, verify_checkpoint
from spin.diffusion.noise import initial_noise
from spin.diffusion.objectives import denoising_errors
from spin.diffusion.pictures import encode_png
from spin.diffusion.sampler import decode_latents, sample_latents
from spin.diffusion.text import TextEmbeddings
from spin.evaluate.held_out import HeldOutRow
from spin.evaluate.latents import HeldOutLatents
from spin.evaluate.request import EvaluateRequest


@dataclass(frozen=True)
class Subject:
    """A checkpoint ready to draw and to be measured; what only one of them needs is loaded at its first use."""

    folder: Path
    unet: UNet2DConditionModel
    text: TextEmbeddings
    real: RealCache
    device: str
    dtype: str

    @classmethod
    def load(cls, request: EvaluateRequest) -> Subject:
        assert request.subject is not None
        verify_checkpoint(request.subject)
        real = RealCache(request.real)
        unet = load_unet(request.subject, device=request.device, dtype=request.dtype)
        text = TextEmbeddings.read(real.text, device=request.device, dtype=request.dtype)
        return cls(request.subject, unet, text, real, request.device, request.dtype)

    @cached_property
    def vae(self) -> AutoencoderKL:
        return load_vae(self.folder, device=self.device, dtype=self.dtype)

    @cached_property
    def latents(self) -> HeldOutLatents:
        scaling, shift = latent_scaling(self.folder)
        return HeldOutLatents.open(self.real.latents, scaling=scaling, shift=shift)

    def draw(self, rows: Sequence[HeldOutRow], request: EvaluateRequest, progress: Progress) -> list[bytes]:
        """A PNG for each row, in batches of one fixed shape."""
        solver = load_solver(self.folder)
        shape = (self.unet.config.in_channels, self.unet.config.sample_size, self.unet.config.sample_size)
        pictures: list[bytes] = []
        for batch in padded_batches(range(len(rows)), request.batch_size):
            text = self.text.of([prompt_hash(rows[i].prompt) for i in batch])
            latents = sample_latents(
                self.unet,
                solver,
                noise=initial_noise([rows[i].seed for i in batch], shape).to(text),
                text=text,
                unconditional=self.text.empty,
                guidance_scale=request.guidance_scale,
                num_inference_steps=request.num_inference_steps,
            )
            pictures += [encode_png(pixels) for pixels in decode_latents(self.vae, latents).numpy()]
            progress(min(len(pictures), len(rows)), len(rows), "drawn")
        return pictures[: len(rows)]

    def measure(
        self, rows: Sequence[HeldOutRow], request: EvaluateRequest, progress: Progress
    ) -> Iterator[dict[str, Any]]:
        """Denoising error on fixed (image, t, noise) draws, a row of DENOISING each.

        The paper's own convergence criterion; it needs no judge. Noise and t are functions of the image and
        the draw's number, so every model is asked the same question.
        """
        schedule = load_schedule(self.folder, request.device)
        latents = self.latents.of([row.prompt_id for row in rows])
        draws = list(product(range(len(rows)), range(request.denoising_draws)))
        for start, batch in enumerate(padded_batches(range(len(draws)), request.batch_size)):
            picked = [draws[i] for i in batch]
            seeds = [seed_of("denoising", rows[row].prompt_id, draw) for row, draw in picked]
            timesteps = torch.tensor([seed % schedule.steps for seed in seeds], device=request.device)
            text = self.text.of([prompt_hash(rows[row].prompt) for row, _ in picked])
            noise = initial_noise(seeds, tuple(latents.shape[1:])).to(text)
            clean = latents[[row for row, _ in picked]].to(text)
            with torch.no_grad():
                errors = denoising_errors(self.unet, clean, noise, timesteps, text, schedule)
            fresh = len(draws) - start * request.batch_size  # what lies behind is padding
            for (row, draw), t, error in list(zip(picked, timesteps.tolist(), errors.tolist(), strict=True))[:fresh]:
                yield {"prompt_id": rows[row].prompt_id, "draw": draw, "timestep": t, "error": error}
            progress(min((start + 1) * request.batch_size, len(draws)), len(draws), "denoised")


_resident: dict[tuple[object, ...], Subject] = {}  # one slot: shards come in calls of their own


def resident_subject(request: EvaluateRequest) -> Subject:
    """The subject of the last call where it is the same one, else loaded in its place."""
    key = _key(request)
    if key not in _resident:
        _resident.clear()  # before loading: two models need not fit in memory
        _resident[key] = Subject.load(request)
    return _resident[key]


def _key(request: EvaluateRequest) -> tuple[object, ...]:
    """All that loading depends on."""
    real = RealCache(request.real)
    manifests = [read_manifest(path) for path in (real.text, real.latents)]
    return (
        request.subject, request.subject_digest, request.device, request.dtype, request.real,
        *(None if manifest is None else manifest.content_digest for manifest in manifests),
    )  # fmt: skip
