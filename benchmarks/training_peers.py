"""How people train on pairs today: the micro-step of Diffusion-DPO's published trainer, in its structure."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer


@dataclass(frozen=True)
class Draws:
    """The numbers that a micro-step draws; given, where its answer is to be compared. (B,), (B, C, h, w)."""

    timesteps: Tensor
    noise: Tensor
    posterior: Tensor
    posterior_loser: Tensor


@dataclass(frozen=True)
class Pictures:
    """One micro-batch as its data loader hands it over, decoded: pixels (B, 6, H, W), both sides; prompts."""

    pixels: Tensor
    tokens: Tensor

    @classmethod
    def read(cls, base: Path, winners: Sequence[bytes], losers: Sequence[bytes], prompts: Sequence[str]) -> Pictures:
        sides = [torch.stack([_pixels(data) for data in side]) for side in (winners, losers)]
        tokenizer = CLIPTokenizer.from_pretrained(base, subfolder="tokenizer")
        tokens = tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        return cls(torch.cat(sides, dim=1), tokens)


class DiffusionDpo:
    """VAE and text encoder in the loop, one pair or a few a pass, numbers fetched from the device in each."""

    def __init__(self, base: Path, *, dtype: str, device: str, beta: float = 2000.0) -> None:
        AcceleratorState._reset_state(True)
        self.dtype, self._device, self._beta = dtype, device, beta
        half = getattr(torch, dtype)
        mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[dtype]
        self._accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)

        def load(kind: Any, part: str, dtype: torch.dtype) -> Any:
            return kind.from_pretrained(base, subfolder=part, dtype=dtype).to(device)

        self._vae = load(AutoencoderKL, "vae", half).requires_grad_(False)
        self._text = load(CLIPTextModel, "text_encoder", half).requires_grad_(False)
        self._reference = load(UNet2DConditionModel, "unet", half).requires_grad_(False)
        self._unet = self._accelerator.prepare_model(load(UNet2DConditionModel, "unet", torch.float32).train())
        self._optimizer = torch.optim.AdamW(self._unet.parameters(), lr=1e-8, weight_decay=1e-2)
        scheduler = DDPMScheduler.from_pretrained(base, subfolder="scheduler")
        self._alphas = scheduler.alphas_cumprod.to(device)
        self._half, self._scaling = half, self._vae.config.scaling_factor

    def step(self, batches: Sequence[Pictures]) -> None:
        """An optimizer step: micro-batches add up, then clip, AdamW."""
        for batch in batches:
            loss, _ = self.losses(batch)
            self._accelerator.backward(loss / len(batches))
        self._accelerator.clip_grad_norm_(self._unet.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def losses(self, batch: Pictures, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """The loss, and the policy's error on winners and losers, (2B,)."""
        pixels = torch.cat(batch.pixels.to(self._device, self._half).chunk(2, dim=1))
        posterior = self._vae.encode(pixels).latent_dist
        draws = draws or self._drawn(posterior.mean)
        eps = torch.cat([draws.posterior, draws.posterior_loser]).to(posterior.mean)
        latents = (posterior.mean + posterior.std * eps) * self._scaling
        timesteps, noise = draws.timesteps.to(self._device).repeat(2), draws.noise.to(latents).repeat(2, 1, 1, 1)
        noised = self._noised(latents, noise, timesteps)
        embedded = self._text(batch.tokens.to(self._device))[0].repeat(2, 1, 1)
        said = self._unet(noised, timesteps, embedded).sample
        error = (said.float() - noise.float()).pow(2).mean(dim=[1, 2, 3])
        winner, loser = error.chunk(2)
        with torch.no_grad(), self._autocast():
            theirs = self._reference(noised, timesteps, embedded).sample
            reference = (theirs.float() - noise.float()).pow(2).mean(dim=[1, 2, 3])
            reference_winner, reference_loser = reference.chunk(2)
        inside = -0.5 * self._beta * ((winner - loser) - (reference_winner - reference_loser))
        loss = -functional.logsigmoid(inside).mean()
        # What is logged of every pass, each fetched from the device: loss, both errors, accuracy, the reference's.
        for told in (loss, error.mean(), reference.mean(), (inside > 0).float().mean(), (winner - loser).mean()):
            told.item()
        return loss, error.detach()

    def _drawn(self, like: Tensor) -> Draws:
        count = len(like) // 2
        timesteps = torch.randint(len(self._alphas), (count,), device=like.device)
        return Draws(timesteps, *(torch.randn_like(like[:count]) for _ in range(3)))

    def _noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        kept = self._alphas[timesteps].view(-1, 1, 1, 1).to(latents.dtype)
        return kept.sqrt() * latents + (1 - kept).sqrt() * noise

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._half == torch.float32 else torch.autocast(self._device, self._half)


def _pixels(data: bytes) -> Tensor:
    """(3, H, W) in -1..1."""
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)
    return torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1
