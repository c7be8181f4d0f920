"""A model's network with what is to train of it: all weights, or an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spin.core.environment import channels_last
from spin.diffusion.checkpoint import load_denoiser
from spin.diffusion.families.registry import family_of
from spin.diffusion.lora import Layers, add_adapter

MemoryFormat = torch.memory_format


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter that is to train, as `add_adapter` takes it."""

    rank: int
    alpha: float
    layers: Layers
    seed: int


def open_policy(folder: Path, *, device: str, recompute: bool, adapter: Adapter | None, layout: MemoryFormat) -> Any:
    """The network of a model, ready to train: float32 weights, whatever an autocast does above them.

    Args:
        recompute: gradient checkpointing.
        adapter: None trains all weights.
        layout: of its weights, as `training_layout` says.
    """
    network = load_denoiser(folder, device=device).requires_grad_(True).train()
    if recompute:
        network.enable_gradient_checkpointing()
    if adapter is not None:
        add_adapter(
            network, rank=adapter.rank, alpha=adapter.alpha, layers=adapter.layers,
            attention=family_of(folder).attention, seed=adapter.seed,
        )  # fmt: skip
    return laid_out(network, layout)


def laid_out(network: Any, layout: MemoryFormat) -> Any:
    """A network with its convolutions' weights in an order of memory; the same values."""
    return network.to(memory_format=layout)


def training_layout(dtype: str, *, optimizer: str, divided: bool = False) -> MemoryFormat:
    """How a training's weights lie, see `channels_last`; `dtype` is the autocast's."""
    is_last = channels_last(dtype, optimizer=optimizer, divided=divided)
    return torch.channels_last if is_last else torch.contiguous_format
