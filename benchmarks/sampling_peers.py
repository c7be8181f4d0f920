"""How people draw pictures today: diffusers' pipeline, called as its documentation does."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import DPMSolverMultistepScheduler, PNDMScheduler, StableDiffusionPipeline
from torch import Tensor

_SOLVERS: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),  # as every published pipeline sets it
    "dpmsolver++": (DPMSolverMultistepScheduler, {}),
}


@dataclass(frozen=True)
class Peer:
    """The whole pipeline: prompts go through the text encoder, latents become pictures, pictures PNG files."""

    pipeline: StableDiffusionPipeline
    steps: int
    guidance: float

    @classmethod
    def load(
        cls, base: Path, *, solver: str, steps: int, guidance: float, dtype: str, device: str, compiled: bool
    ) -> Peer:
        pipeline = StableDiffusionPipeline.from_pretrained(base, dtype=getattr(torch, dtype)).to(device)
        kind, settings = _SOLVERS[solver]
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **settings)
        pipeline.set_progress_bar_config(disable=True)
        if compiled:
            pipeline.unet = torch.compile(pipeline.unet)
        return cls(pipeline, steps, guidance)

    def draw(self, prompts: Sequence[str], noise: Tensor, folder: Path) -> None:
        """One call for all prompts; PIL and PNG as everybody saves them."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(self._ask(prompts, noise, "pil")):
            picture.save(folder / f"{number}.png")

    def latents(self, prompts: Sequence[str], noise: Tensor) -> Tensor:
        """(B, C, h, w) float32."""
        return self._ask(prompts, noise, "latent").float().cpu()

    def _ask(self, prompts: Sequence[str], noise: Tensor, output: str) -> Any:
        return self.pipeline(
            list(prompts), num_inference_steps=self.steps, guidance_scale=self.guidance, output_type=output,
            latents=noise.to(self.pipeline.device, self.pipeline.dtype),
        ).images  # fmt: skip
