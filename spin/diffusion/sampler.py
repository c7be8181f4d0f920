"""The sampling loop: batched, classifier-free guidance in one forward, latents in and latents out.

Given the same initial noise it equals the family's own pipeline in diffusers (tested to 1e-5).
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from spin.core.approximation import EXACT, Approximation
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.reusing import DeepFeatures, reusing_deep_features


@torch.no_grad()
def sample_latents(
    denoiser: Denoiser,
    scheduler: Any,
    *,
    noise: Tensor,
    given: Conditioning,
    unconditional: Conditioning,
    guidance_scale: float,
    num_inference_steps: int,
    heard: Callable[[Tensor, Tensor], None] | None = None,
    approximation: Approximation = EXACT,
) -> Tensor:
    """Draw latents from noise.

    Args:
        scheduler: a solver of diffusers; a fresh one per call is not needed, its state is reset here.
        noise: (B, C, h, w) unit normal.
        given: B encoded captions.
        unconditional: what guidance compares with, one row.
        guidance_scale: at 1 or below only the conditional half runs (arXiv 2207.12598).
        num_inference_steps: steps of the solver; `spin.core.counted.network_calls` tells how often it asks.
        heard: called before each step with its timestep and the solver's state x_t there, (B, C, h, w); for the
            solvers of REVERSE_SOLVERS this is the x_t of the forward process, sqrt(a_t) x_0 + sqrt(1 - a_t) eps.
        approximation: calls of the network that are left out, or their deep parts; a solver goes on from what is left.

    Returns:
        (B, C, h, w) latents in the model's scaled space.
    """
    scheduler.set_timesteps(num_inference_steps, device=noise.device)
    if hasattr(scheduler, "set_begin_index"):  # or it looks the first timestep up, and waits for the device
        scheduler.set_begin_index(0)
    calls = approximation.calls(len(scheduler.timesteps), guided=guidance_scale > 1)
    both = Conditioning.cat([unconditional.expand(len(given)), given]) if any(call.guided for call in calls) else given
    scaled = getattr(scheduler, "scale_model_input", _unscaled)  # a flow's scheduler has neither
    latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    reuses = approximation.reuse_every > 1
    with reusing_deep_features(denoiser.network) if reuses else nullcontext(DeepFeatures()) as features:
        for timestep, call in zip(scheduler.timesteps, calls, strict=True):
            if heard is not None:
                heard(timestep, latents)
            features.computed = call.deep
            inputs = scaled(torch.cat([latents, latents]) if call.guided else latents, timestep)
            prediction = denoiser(inputs, timestep, both if call.guided else given)
            if call.guided:
                without, with_caption = prediction.chunk(2)
                prediction = without + guidance_scale * (with_caption - without)
            latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scaled latents -> RGB pixels, (B, H, W, 3) uint8, rounded as diffusers' image processor does."""
    return to_bytes(decode_unit(vae, latents))


@torch.no_grad()
def decode_unit(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scaled latents -> (B, 3, H, W) float32 in 0..1; NaN stays NaN."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    decoded = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor + shift).sample
    return (decoded.float() / 2 + 0.5).clamp(0, 1)


def to_bytes(unit: Tensor) -> Tensor:
    """(B, 3, H, W) in 0..1 -> (B, H, W, 3) uint8 on the CPU."""
    return (unit.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu()


@torch.no_grad()
def encode_images(vae: AutoencoderKL, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """RGB pixels (B, H, W, 3) uint8 -> unscaled posterior mean and log-variance, (B, C, h, w) float32."""
    images = pixels.to(vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    posterior = vae.encode(images.to(vae.dtype)).latent_dist
    return posterior.mean.float(), posterior.logvar.float()


def posterior_sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw of the encoder's posterior, still unscaled."""
    return mean + torch.exp(0.5 * log_variance) * noise


def _unscaled(latents: Tensor, timestep: Tensor) -> Tensor:  # noqa: ARG001  the schedulers' own signature
    return latents
