"""The model that is evaluated: what it draws of the held-out captions, and its denoising error on the real images."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL

from spin.core.background import Background
from spin.core.layout import RealCache
from spin.core.plan import padded_batches, seed_of
from spin.core.progress import Progress
from spin.core.store import read_manifest
from spin.diffusion.attention import attending
from spin.diffusion.checkpoint import (
    DTYPES,
    latent_scaling,
    load_denoiser,
    load_schedule,
    load_vae,
    verify_checkpoint,
)
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser, denoising_errors
from spin.diffusion.families.facts import facts_of
from spin.diffusion.families.registry import family_of
from spin.diffusion.noise import drawn_noise, initial_noise
from spin.diffusion.pictures import encode_png
from spin.diffusion.remembering import Remembered
from spin.diffusion.sampler import decode_unit, sample_latents, to_bytes
from spin.diffusion.solvers import load_solver
from spin.diffusion.text import PromptEncoder
from spin.diffusion.transfer import to_device
from spin.evaluate.asked import Picture, Prompt
from spin.evaluate.latents import HeldOutLatents
from spin.evaluate.request import EvaluateRequest

Floats = npt.NDArray[np.float32]
_REMEMBERED: Final = 2048  # prompts: 0.5 GB of SD-1.5's text


@dataclass(frozen=True)
class Subject:
    """A checkpoint ready to draw and to be measured; what only one of them needs is loaded at its first use."""

    folder: Path
    denoiser: Denoiser
    text: Remembered[Conditioning]  # through the model's own text encoders
    real: Path | None  # cache of real images
    device: str
    dtype: str

    @classmethod
    def load(cls, request: EvaluateRequest) -> Subject:
        assert request.subject is not None
        verify_checkpoint(request.subject)
        network = load_denoiser(request.subject, device=request.device, dtype=request.dtype)
        encoder = PromptEncoder.load(request.subject, device=request.device)
        return cls(
            request.subject,
            Denoiser(network, family_of(request.subject)),
            Remembered(encoder.encode, most=_REMEMBERED),
            request.real,
            request.device,
            request.dtype,
        )

    @cached_property
    def vae(self) -> AutoencoderKL:
        return load_vae(self.folder, device=self.device, dtype=self.dtype)

    @cached_property
    def latents(self) -> HeldOutLatents:
        assert self.real is not None
        scaling, shift = latent_scaling(self.folder)
        return HeldOutLatents.open(RealCache(self.real), scaling=scaling, shift=shift)

    def draw(
        self, pictures: Sequence[Picture], request: EvaluateRequest, progress: Progress,
        kept: list[Floats] | None = None,
    ) -> list[bytes | None]:  # fmt: skip
        """A PNG for each picture, in batches of one fixed shape; None where what the model gave is not finite.

        Args:
            kept: takes the latents of each batch, padding at the end of the last one.
        """
        solver = load_solver(self.folder, request.scheduler)
        drawn: list[bytes | None] = []
        self.text.know(["", *(picture.asked.prompt for picture in pictures)])
        with Background() as background:  # a PNG of 512 x 512 takes as long as drawing it does on a GPU
            for number, batch in enumerate(padded_batches(range(len(pictures)), request.batch_size), start=1):
                pixels, finite = self._pixels([pictures[i] for i in batch], solver, request, kept)
                background.hand_over(partial(_encode, pixels, finite, drawn))
                progress(min(number * request.batch_size, len(pictures)), len(pictures), "drawn")
        return drawn[: len(pictures)]

    def _pixels(
        self, pictures: Sequence[Picture], solver: Any, request: EvaluateRequest, kept: list[Floats] | None
    ) -> tuple[npt.NDArray[np.uint8], list[bool]]:
        """(B, H, W, 3) of one batch, and which of them came from finite numbers."""
        given = self._encoded([picture.asked.prompt for picture in pictures])
        seeds = [(picture.asked.seed, picture.draw, picture.asked.draws) for picture in pictures]
        noise = to_device(drawn_noise(seeds, facts_of(self.folder).latent_shape), given.device, given.dtype)
        nothing = self._encoded([""])
        with attending(request.attention, device=self.device, dtype=self.dtype):
            latents = sample_latents(
                self.denoiser,
                solver,
                noise=noise,
                given=given,
                unconditional=nothing,
                guidance_scale=request.guidance_scale,
                num_inference_steps=request.num_inference_steps,
                approximation=request.approximation,
            )
        if kept is not None:
            kept.append(latents.float().cpu().numpy())
        unit = decode_unit(self.vae, latents)
        return to_bytes(unit.nan_to_num()).numpy(), unit.isfinite().all(dim=(1, 2, 3)).tolist()

    def measure(self, rows: Sequence[Prompt], request: EvaluateRequest, progress: Progress) -> Iterator[dict[str, Any]]:
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
            given = self._encoded([rows[row].prompt for row, _ in picked])
            noise = to_device(initial_noise(seeds, tuple(latents.shape[1:])), given.device, given.dtype)
            clean = to_device(latents[[row for row, _ in picked]], given.device, given.dtype)
            with torch.no_grad(), attending(request.attention, device=self.device, dtype=self.dtype):
                errors = denoising_errors(self.denoiser, clean, noise, timesteps, given, schedule)
            fresh = len(draws) - start * request.batch_size  # what lies behind is padding
            for (row, draw), t, error in list(zip(picked, timesteps.tolist(), errors.tolist(), strict=True))[:fresh]:
                yield {"prompt_id": rows[row].prompt_id, "draw": draw, "timestep": t, "error": error}
            progress(min((start + 1) * request.batch_size, len(draws)), len(draws), "denoised")

    def _encoded(self, prompts: Sequence[str]) -> Conditioning:
        return self.text.of(prompts).to(self.device, DTYPES[self.dtype])


def _encode(pixels: npt.NDArray[np.uint8], finite: Sequence[bool], drawn: list[bytes | None]) -> None:
    """Add a batch's PNGs to what is drawn; None for a picture that is none."""
    drawn += [encode_png(picture) if whole else None for picture, whole in zip(pixels, finite, strict=True)]


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
    latents = None if request.real is None else read_manifest(RealCache(request.real).latents)
    return (
        request.subject, request.subject_digest, request.device, request.dtype, request.real,
        None if latents is None else latents.content_digest,
    )  # fmt: skip
