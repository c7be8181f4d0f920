"""Gradients become weights: clipped and stepped, in float16 under a scale that lets small gradients live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from spin.train.sharding import own, whole

_LEAST_SCALE: Final = 1.0  # below it float16 loses more small gradients than without a scale


@dataclass(frozen=True)
class Update:
    """What a step changes, and with what."""

    parameters: Sequence[nn.Parameter]  # those that train: all of them, or the adapter's
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None  # of float16 training: at an overflow it skips the step and halves

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def clip(self, max_norm: float) -> Tensor:
        """Scale the gradients down to `max_norm`; their norm before, (), over all processes."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        return whole(nn.utils.clip_grad_norm_(self.parameters, max_norm))

    def norm(self) -> Tensor:
        """Norm of the gradients as they are, (), over all processes; under a scaler of the scaled ones."""
        return whole(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))

    def step(self) -> bool:
        """Make a step and forget the gradients; false where a scaler met an overflow and left the weights alone."""
        made = True
        if self.scaler is None:
            self.optimizer.step()
        else:
            before = self.scaler.get_scale()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            made = self.scaler.get_scale() >= before  # it halves where it skips, and tells it in no other way
        self.forget()
        return made

    def forget(self) -> None:
        self.optimizer.zero_grad()

    @property
    def is_finite(self) -> bool:
        """Whether every gradient that this process holds is; their norm may overflow where none of them does."""
        return all(bool(own(p.grad).isfinite().all()) for p in self.parameters if p.grad is not None)

    @property
    def is_lost(self) -> bool:
        """Whether gradients overflowed at every scale that is of use; asks the device."""
        return self.scaler is not None and self.scaler.get_scale() < _LEAST_SCALE
