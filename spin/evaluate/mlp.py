"""The regression head of two judges: linear layers with nothing but dropout between them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn


def linear_mlp(state: Mapping[str, Tensor]) -> nn.Sequential:
    """A head in the shape of its weights, `0.weight`, `2.weight`, ...; between them was dropout."""
    sizes = {int(key.split(".")[0]): value.shape for key, value in state.items() if re.fullmatch(r"\d+\.weight", key)}
    layers: list[nn.Module] = [nn.Identity() for _ in range(max(sizes) + 1)]
    for index, (outputs, inputs) in sizes.items():
        layers[index] = nn.Linear(inputs, outputs)
    return nn.Sequential(*layers)
