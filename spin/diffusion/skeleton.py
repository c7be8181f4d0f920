"""A model's networks in their true shapes without weights: on the meta device, where nothing is stored or computed."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL
from torch import Tensor, nn

from spin.diffusion.checkpoint import denoiser_without_weights, without_weights
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.families.facts import facts_of, picture_size
from spin.diffusion.families.family import Family
from spin.diffusion.families.registry import components, family_of, read_configs, read_index


@dataclass(frozen=True)
class Skeleton:
    """What a folder's configs say of its networks; each is built anew where it is asked for."""

    folder: Path
    family: Family
    latent_shape: tuple[int, int, int]
    picture_size: int  # side in pixels
    prompt_shapes: Mapping[str, tuple[int, ...]]  # of one encoded prompt

    @classmethod
    def of(cls, folder: Path) -> Skeleton:
        family, shape = family_of(folder), facts_of(folder).latent_shape
        side = picture_size(folder, resolution=None)
        return cls(folder, family, shape, side, family.given_shapes(read_configs(folder)))

    def network(self) -> Any:
        """The denoiser, ready to train."""
        return denoiser_without_weights(self.folder).train()

    def autoencoder(self) -> AutoencoderKL:
        return without_weights(AutoencoderKL, self.folder, "vae").eval().requires_grad_(False)

    def text_encoders(self) -> list[nn.Module]:
        return [self._text_encoder(name) for name in components(self.folder) if name.startswith("text_encoder")]

    def latents(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(count, *self.latent_shape, device="meta", dtype=dtype)

    def pictures(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(count, 3, self.picture_size, self.picture_size, device="meta", dtype=dtype)

    def prompts(self, count: int, dtype: torch.dtype = torch.float32) -> Conditioning:
        """Encoded prompts."""
        return Conditioning.zeros(self.prompt_shapes, count, device="meta", dtype=dtype)

    def _text_encoder(self, part: str) -> nn.Module:
        kind = getattr(transformers, read_index(self.folder)[part][1])
        with torch.device("meta"):
            encoder: nn.Module = kind(kind.config_class.from_pretrained(self.folder / part))
        return encoder.eval().requires_grad_(False)


def weights_of(*networks: nn.Module) -> int:
    """Number of their weights."""
    return sum(weight.numel() for network in networks for weight in network.parameters())
