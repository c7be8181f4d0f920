"""Optimizers by name; those that are not torch's own are only there where their library is installed.

No torch is imported at the top: `check` asks before anything is spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from spin.core.environment import installed
from spin.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

_BITSANDBYTES: Final = (0, 50)  # the first whose 8-bit optimizers also work on a CPU


def has_optimizer(name: str) -> bool:
    """Whether the library of an optimizer is here."""
    return name != "adamw_8bit" or _numbers(installed("bitsandbytes")) >= _BITSANDBYTES


def require_optimizer(name: str) -> None:
    """ConfigError where an optimizer's library is missing or too old."""
    if not has_optimizer(name):
        found = installed("bitsandbytes")
        wanted = ".".join(map(str, _BITSANDBYTES))
        raise ConfigError(
            f"adamw_8bit needs bitsandbytes {wanted} or newer, which is {found}", where="train.optimizer",
            fix="pip install 'spin-diffusion[8bit]', or set it to adamw",
        )  # fmt: skip


def make_optimizer(
    trained: Sequence[nn.Parameter],
    name: str,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    divided: bool = False,
) -> Optimizer:
    """AdamW over what trains: torch's, or with both moments in 8 bits (arXiv 2110.02861), 2 bytes a weight for 8.

    Args:
        trained: on a GPU torch's is fused, one kernel for all weights of a step; on a CPU fusing moves bits.
        name: adamw or adamw_8bit, as the config names them.
        divided: whether the processes divide the moments by whole weights, each stepping its own.
    """
    values: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    if name == "adamw_8bit":
        require_optimizer(name)
        from bitsandbytes.optim import AdamW8bit

        optimizer: Optimizer = AdamW8bit(trained, **values)
        return optimizer
    from torch.optim import AdamW

    if all(weight.is_cuda for weight in trained):
        values["fused"] = True
    if divided:
        from torch.distributed.optim import ZeroRedundancyOptimizer

        return ZeroRedundancyOptimizer(trained, AdamW, **values)
    return AdamW(trained, **values)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
