"""A model's network with what is to train of it: all weights, or an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spin.diffusion.checkpoint import load_denoiser
from spin.diffusion.families.registry import family_of
from spin.diffusion.lora import Layers, add_adapter


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter that is to train, as `add_adapter` takes it."""

    rank: int
    alpha: float
    layers: Layers
    seed: int


def open_policy(folder: Path, *, device: str, recompute: bool, adapter: Adapter | None) -> Any:
    """The network of a model, ready to train.

    Args:
        recompute: gradient checkpointing.
        adapter: None trains all weights.
    """
    network = load_denoiser(folder, device=device).requires_grad_(True).train()
    if recompute:
        network.enable_gradient_checkpointing()
    if adapter is not None:
        add_adapter(
            network, rank=adapter.rank, alpha=adapter.alpha, layers=adapter.layers,
            attention=family_of(folder).attention, seed=adapter.seed,
        )  # fmt: skip
    return network
