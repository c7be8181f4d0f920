"""LoRA (arXiv 2106.09685): small matrices beside frozen weights; the same network with them switched off is the start.

W x + alpha / rank * B A x      A: (rank, in), drawn; B: (out, rank), 0 at first
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from peft import LoraConfig
from torch import nn

from spin.core.plan import seed_of

Layers = Literal["attention", "all"]


def add_adapter(network: Any, *, rank: int, alpha: float, layers: Layers, attention: Sequence[str], seed: int) -> None:
    """Freeze a network and add an adapter that changes nothing yet: B is 0, so W x keeps its bits.

    Args:
        rank: columns of B and rows of A.
        alpha: scale of the adapter, divided by the rank.
        layers: the attention's projections, or every linear and convolution.
        attention: names of the attention's projections in the network's family.
        seed: each A is a function of it and of its own name.
    """
    network.requires_grad_(False)
    targets = list(attention) if layers == "attention" else _linear_and_convolution(network)
    network.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, bias="none"))
    for name, weight in network.named_parameters():
        if ".lora_A." in name:
            drawn = torch.empty(weight.shape)
            generator = torch.Generator().manual_seed(seed_of("adapter", seed, name))
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)  # as peft and nn.Linear do
            weight.data.copy_(drawn)


def merge_adapter(network: Any) -> None:
    """W + alpha / rank * B A in the place of W: a plain network again, that says the same."""
    network.fuse_lora()
    network.unload_lora()


class WithoutAdapter(nn.Module):
    """The same network with its adapter off: the start, at no memory of its own and on the policy's precision path."""

    def __init__(self, network: Any, call: Callable[..., Any] | None = None) -> None:
        """Args:
        call: how the network is run, such as compiled; None: as it is.
        """
        super().__init__()
        self._network = [network]  # in a list: as a submodule it would be counted and switched twice
        self._call = [call or network]

    def forward(self, *inputs: Any, **named: Any) -> Any:
        (network,), (call,) = self._network, self._call
        network.disable_adapters()
        try:
            return call(*inputs, **named)
        finally:
            network.enable_adapters()


def _linear_and_convolution(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
