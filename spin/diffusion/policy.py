"""A model's network with what is to train of it: all weights, or an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

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


def training_layout(dtype: str, *, optimizer: str = "adamw", divided: bool = False) -> MemoryFormat:
    """How convolutions' weights lie in memory; their inputs follow.

    Channels last is what half precision's kernels are made for, on a GPU's tensor cores and a CPU's bfloat16 alike;
    float32 gains nothing on a CPU, and keeps its bits.

    Args:
        dtype: of the autocast.
        optimizer: adamw_8bit makes weights contiguous in every step.
        divided: whether processes divide the weights: FSDP2 takes contiguous ones alone.
    """
    contiguous = divided or dtype == "float32" or optimizer == "adamw_8bit"
    return torch.contiguous_format if contiguous else torch.channels_last
