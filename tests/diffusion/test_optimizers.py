"""Optimizers by name; what of it needs bitsandbytes is passed over where it is not installed."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import importlib.metadata
import io
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spin.core.errors import ConfigError
from spin.diffusion.optimizers import has_optimizer, make_optimizer, require_optimizer

needs_library = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def state_bytes(state: Any) -> int:
    """Of all tensors in an optimizer's state, however deep."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    return sum(state_bytes(value) for value in state.values()) if isinstance(state, dict) else 0


def working(optimizer: Any) -> torch.optim.Optimizer:
    """What steps: of moments that are divided, this process's own."""
    return getattr(optimizer, "optim", optimizer)


def stepped(name: str, size: int = 8192) -> torch.optim.Optimizer:
    weight = torch.nn.Parameter(torch.ones(size))
    optimizer = make_optimizer([weight], name, lr=1e-4)
    weight.square().sum().backward()
    optimizer.step()
    return optimizer


def test_adamw_is_torchs_with_every_setting_in_its_place() -> None:
    weights = [torch.nn.Parameter(torch.ones(1))]
    optimizer = make_optimizer(weights, "adamw", lr=0.1, betas=(0.5, 0.75), eps=1e-3, weight_decay=0.25)
    assert type(optimizer) is torch.optim.AdamW
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.1, (0.5, 0.75), 1e-3, 0.25)


@pytest.mark.parametrize("divided", [False, True])
def test_steps_are_fused_on_a_gpu_and_on_a_cpu_as_they_always_were(divided: bool) -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        plain = make_optimizer([torch.nn.Parameter(torch.ones(1))], "adamw", lr=0.1, divided=divided)
        with FakeTensorMode():  # weights on a GPU, on machines that have none
            weights = [torch.nn.Parameter(torch.ones(1, device="cuda")) for _ in range(2)]
            fused = make_optimizer(weights, "adamw", lr=0.1, divided=divided)
    finally:
        torch.distributed.destroy_process_group()
    assert [working(optimizer).defaults["fused"] for optimizer in (plain, fused)] == [None, True]


@pytest.mark.parametrize("found", [None, "0.49.9", "0.9"])
def test_a_missing_or_old_library_is_one_line(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    def version(name: str) -> str:
        assert name == "bitsandbytes"
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr("spin.core.environment.version", version)
    with pytest.raises(ConfigError) as caught:
        require_optimizer("adamw_8bit")
    assert str(caught.value) == (
        f"train.optimizer: adamw_8bit needs bitsandbytes 0.50 or newer, which is {found or 'not installed'}; "
        "pip install 'spin-diffusion[8bit]', or set it to adamw"
    )
    with pytest.raises(ConfigError, match=r"train\.optimizer: adamw_8bit needs bitsandbytes"):
        make_optimizer([torch.nn.Parameter(torch.ones(1))], "adamw_8bit", lr=1e-4)
    assert not has_optimizer("adamw_8bit")


def test_torchs_own_needs_nothing() -> None:
    require_optimizer("adamw")
    assert has_optimizer("adamw")


@needs_library
def test_eight_bits_take_a_quarter_of_the_memory_and_come_back_without_pickled_code() -> None:
    whole, eighth = (stepped(name) for name in ("adamw", "adamw_8bit"))
    assert state_bytes(whole.state_dict()["state"][0]) >= 8 * 8192
    # 2 bytes a weight, the scale of each block of 256, and two tables of 256 numbers
    assert state_bytes(eighth.state_dict()["state"][0]) <= 2 * 8192 + 2 * 4 * 32 + 2 * 4 * 256
    stream = io.BytesIO()
    torch.save(eighth.state_dict(), stream)
    stream.seek(0)
    fresh = make_optimizer([torch.nn.Parameter(torch.ones(8192))], "adamw_8bit", lr=1e-4)
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    assert str(fresh.state_dict()) == str(eighth.state_dict())
