"""Rates of this machine from one batch of each kind of work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spin.diffusion.checkpoint import load_schedule, load_solver, load_unet, load_vae
from spin.diffusion.objectives import denoising_errors
from spin.diffusion.sampler import decode_latents, sample_latents


@dataclass(frozen=True)
class Rates:
    """Seconds for one unit of work, and bytes of what it leaves."""

    sampled_image: float  # latents only, at the sampling guidance
    evaluated_image: float  # with decoding, at the evaluation guidance
    pair: float  # a SPIN training pair
    sft_image: float
    latent_bytes: int
    checkpoint_bytes: int  # what a new checkpoint adds to the disk


def measure(
    base: Path,
    *,
    sampling_guidance: float,
    sampling_steps: int,
    sampling_batch: int,
    evaluation_guidance: float,
    evaluation_steps: int,
    sampling_scheduler: str = "dpmsolver++",
    evaluation_scheduler: str = "dpmsolver++",
    micro_batch: int,
    device: str,
    threads: int,
) -> Rates:
    """Run one batch of sampling, evaluation and training on the base model."""
    torch.set_num_threads(threads)
    unet, vae, schedule = load_unet(base, device=device), load_vae(base, device=device), load_schedule(base, device)
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)

    def sample(guidance: float, steps: int, solver: Any) -> Tensor:
        text = torch.zeros(sampling_batch, 8, unet.config.cross_attention_dim, device=device)
        noise = torch.randn(sampling_batch, *shape, device=device)
        return sample_latents(
            unet, solver, noise=noise, text=text, unconditional=text[:1], guidance_scale=guidance,
            num_inference_steps=steps,
        )  # fmt: skip

    def errors(images: int) -> Tensor:
        latents = torch.randn(images, *shape, device=device)
        text = torch.zeros(images, 8, unet.config.cross_attention_dim, device=device)
        steps = torch.randint(schedule.steps, (images,), device=device)
        return denoising_errors(unet, latents, torch.randn_like(latents), steps, text, schedule)

    def train(images: int) -> None:
        unet.requires_grad_(True).train()
        errors(images).mean().backward()

    def look(images: int) -> None:
        with torch.no_grad():
            errors(images)

    drawn = (sampling_guidance, sampling_steps, load_solver(base, sampling_scheduler))
    scored = (evaluation_guidance, evaluation_steps, load_solver(base, evaluation_scheduler))
    sampled = _seconds(lambda: sample(*drawn)) / sampling_batch
    evaluated = _seconds(lambda: decode_latents(vae, sample(*scored))) / sampling_batch
    trained, looked = _seconds(lambda: train(2 * micro_batch)), _seconds(lambda: look(2 * micro_batch))
    weights = sum(p.numel() * 4 for p in unet.parameters())
    return Rates(
        sampled_image=sampled,
        evaluated_image=evaluated,
        pair=(trained + looked) / micro_batch,
        sft_image=trained / (2 * micro_batch),
        latent_bytes=4 * shape[0] * shape[1] * shape[2],
        checkpoint_bytes=weights,
    )


def _seconds(work: Callable[[], object]) -> float:
    work()  # warm-up: the first call pays for memory and kernels
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
