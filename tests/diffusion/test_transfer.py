"""What goes to a GPU is pinned and queued; a CPU has it already."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spin.diffusion.transfer import to_device


def test_a_cpu_has_it_already() -> None:
    values = torch.randn(3, 2)
    assert to_device(values, "cpu", torch.float32) is values
    assert torch.equal(to_device(values, "cpu", torch.bfloat16), values.bfloat16())


def test_a_gpu_gets_half_the_bytes_from_pinned_memory_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: torch's own two methods tell what they are asked."""
    told: list[object] = []
    move = Tensor.to

    def pin(values: Tensor) -> Tensor:
        told.append(("pinned", values.dtype))
        return values

    def to(values: Tensor, *where: object, **how: object) -> Tensor:
        if isinstance(where[0], torch.dtype):
            return move(values, *where, **how)
        told.append((where, how))
        return values

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", to)
    to_device(torch.ones(2), "cuda:1", torch.float16)
    assert told == [("pinned", torch.float16), (("cuda:1",), {"non_blocking": True})]
