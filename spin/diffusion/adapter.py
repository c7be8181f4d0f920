"""A LoRA adapter apart from its network: taken out of it, read, added up, written for others.

Every file of ours holds W + B A, the adapter's scale in B: what diffusers and others take where no alpha is told.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from spin.core.adapters import ADAPTER_FILE
from spin.core.store import verify
from spin.diffusion.families.family import Family

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Factors:
    """What is added to the weight of one layer: b a."""

    a: Tensor  # (rank, in), or (rank, in, kh, kw) of a convolution
    b: Tensor  # (out, rank), or (out, rank, 1, 1)

    @property
    def rank(self) -> int:
        return len(self.a)


Adapter = Mapping[str, Factors]  # by the layer's name in the network, such as mid_block.attentions.0.proj_in


def trained_adapter(network: Any) -> Adapter:
    """The adapter of a network of diffusers, on the CPU."""
    config = network.peft_config["default"]
    weights = get_peft_model_state_dict(network, adapter_name="default", save_embedding_layers=False)
    scale = config.lora_alpha / config.r
    return _pairs({name: (scale * w if name.endswith(_UP) else w).detach().cpu() for name, w in weights.items()})


def read_adapter(folder: Path, family: Family) -> Adapter:
    """The adapter that a stage kept; its bytes are verified."""
    verify(folder)
    weights = load_file(folder / ADAPTER_FILE)
    return _pairs({name.removeprefix(f"{family.denoiser}."): values for name, values in weights.items()})


def summed(adapters: Sequence[Adapter]) -> Adapter:
    """One adapter that adds what all of them add, exactly: b1 a1 + b2 a2 = [b1 b2] [a1; a2], of rank r1 + r2."""
    names = dict.fromkeys(name for adapter in adapters for name in adapter)
    found = {}
    for name in names:
        parts = [adapter[name] for adapter in adapters if name in adapter]
        found[name] = Factors(torch.cat([p.a for p in parts]), torch.cat([p.b for p in parts], dim=1))
    return found


def as_diffusers(adapter: Adapter, family: Family) -> dict[str, Tensor]:
    """Under the names that `load_lora_weights` of the family's pipeline opens: those of PEFT behind the component's."""
    pairs = sorted(adapter.items())
    down = {f"{family.denoiser}.{name}{_DOWN}": factors.a.contiguous() for name, factors in pairs}
    return down | {f"{family.denoiser}.{name}{_UP}": factors.b.contiguous() for name, factors in pairs}


def write_weights(file: Path, weights: Mapping[str, Tensor], *, notes: Mapping[str, str] | None = None) -> None:
    """A safetensors file.

    Args:
        notes: for its header; where there is more than one their order is chance, and with it the bytes.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), file, metadata={"format": "pt", **(notes or {})})


def _pairs(weights: Mapping[str, Tensor]) -> Adapter:
    names = [name.removesuffix(_DOWN) for name in weights if name.endswith(_DOWN)]
    return {name: Factors(weights[name + _DOWN], weights[name + _UP]) for name in names}
