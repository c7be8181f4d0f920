"""LoRA (arXiv 2106.09685): small matrices beside frozen weights; the same network with them switched off is the start.

W x + alpha / rank * B A x      A: (rank, in), drawn; B: (out, rank), 0 at first
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import math
from typing import Any, Final, Literal

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import nn

from spin.core.plan import seed_of

Layers = Literal["attention", "all"]
_ATTENTION: Final = ("to_q", "to_k", "to_v", "to_out.0")


def add_adapter(unet: UNet2DConditionModel, *, rank: int, alpha: float, layers: Layers, seed: int) -> None:
    """Freeze a network and add an adapter that changes nothing yet: B is 0, so W x keeps its bits.

    Args:
        rank: columns of B and rows of A.
        alpha: scale of the adapter, divided by the rank.
        layers: the attention's four projections, or every linear and convolution.
        seed: each A is a function of it and of its own name.
    """
    unet.requires_grad_(False)
    targets = list(_ATTENTION) if layers == "attention" else _linear_and_convolution(unet)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, bias="none"))
    for name, weight in unet.named_parameters():
        if ".lora_A." in name:
            drawn = torch.empty(weight.shape)
            generator = torch.Generator().manual_seed(seed_of("adapter", seed, name))
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)  # as peft and nn.Linear do
            weight.data.copy_(drawn)


def merge_adapter(unet: UNet2DConditionModel) -> None:
    """W + alpha / rank * B A in the place of W: a plain network again, that says the same."""
    unet.fuse_lora()
    unet.unload_lora()


class WithoutAdapter(nn.Module):
    """The same network with its adapter off: the start, at no memory of its own and on the policy's precision path."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self._unet = [unet]  # in a list: as a submodule it would be counted and switched twice

    def forward(self, *inputs: Any, **named: Any) -> Any:
        (unet,) = self._unet
        unet.disable_adapters()
        try:
            return unet(*inputs, **named)
        finally:
            unet.enable_adapters()


def _linear_and_convolution(unet: nn.Module) -> list[str]:
    return [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
