"""What a stage loads, for every family: recomputing instead of keeping changes memory, never a gradient."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spin.core.layout import StageFolder
from spin.core.schema import read_table
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.families.facts import facts_of
from spin.diffusion.families.registry import family_of, read_configs
from spin.train.networks import load_networks
from spin.train.request import TrainRequest
from spin.train.room import run
from tests.families import teach
from tests.world import SETTINGS

MakeRequest = Callable[..., TrainRequest]
EIGHT_BITS = {"optimizer": "adamw_8bit"}
needs_library = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
ADAPTER: dict[str, Any] = {"lora_rank": 2, "lora_alpha": 4.0, "lora_layers": "all"}


def request_of(folder: Path, **settings: Any) -> TrainRequest:
    """A training of a model; of its data nothing is read here."""
    nowhere = folder / "nowhere"
    return TrainRequest(
        stage=nowhere / "iteration-01", start=folder, start_digest="", prompts=nowhere, real=nowhere, text=nowhere,
        draws=1, run_seed=0, settings=replace(SETTINGS, **settings), device="cpu", dtype="float32", threads=1,
    )  # fmt: skip


def gradients(request: TrainRequest) -> tuple[Tensor, dict[str, Tensor], int]:
    """What the policy says, its gradient by parameter, and how many tensors were kept for it."""
    networks, family = load_networks(request), family_of(request.start)
    teach(networks.tensors.denoiser)
    generator = torch.Generator().manual_seed(1)
    shapes = {"noisy": facts_of(request.start).latent_shape, **family.given_shapes(read_configs(request.start))}
    values = {name: torch.randn(2, *shape, generator=generator) for name, shape in shapes.items()}
    asked = values.pop("noisy"), torch.tensor([5, 900]), Conditioning(values)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        said = networks.policy(*asked)
    assert networks.opponent is not None
    with torch.no_grad():
        networks.opponent(*asked)  # between the two, as in a step: an adapter is off in it
    networks.update.backward((said - 1).square().mean())
    found = {name: p.grad for name, p in networks.tensors.trained.items() if p.grad is not None}
    return said.detach(), found, len(kept)


@pytest.mark.parametrize("settings", [{}, ADAPTER], ids=["all weights", "adapter"])
@pytest.mark.parametrize("kind", ["sd-v", "sdxl", "sd3"])
def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradient(
    folder_of: Callable[[str], Path], kind: str, settings: dict[str, Any]
) -> None:
    kept_all, recomputed = (
        gradients(request_of(folder_of(kind), gradient_checkpointing=on, **settings)) for on in (False, True)
    )
    assert torch.equal(kept_all[0], recomputed[0])
    assert kept_all[1].keys() == recomputed[1].keys()
    assert len(kept_all[1]) > 20
    for name, gradient in kept_all[1].items():
        torch.testing.assert_close(recomputed[1][name], gradient, atol=1e-6, rtol=1e-6)
    assert max(gradient.abs().max() for gradient in kept_all[1].values()) > 1e-3
    assert recomputed[2] < 0.6 * kept_all[2]


def test_every_setting_of_the_optimizer_is_in_its_place(folder_of: Callable[[str], Path]) -> None:
    values = {"lr": 0.1, "adam_beta1": 0.5, "adam_beta2": 0.75, "adam_epsilon": 1e-3, "weight_decay": 0.25}
    (group,) = load_networks(request_of(folder_of("sd-v"), **values)).update.optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.1, (0.5, 0.75), 1e-3, 0.25)


@needs_library
@pytest.mark.system
def test_training_with_eight_bits_follows_the_whole_one_and_resumes_to_the_same_bytes(
    make_request: MakeRequest,
) -> None:
    settings = {"steps": 6, "state_every_steps": 2, "lr": 1e-4, "warmup_steps": 0}
    results = {
        name: make_request(name, settings={**settings, **more}) for name, more in (("plain", {}), ("bits", EIGHT_BITS))
    }
    digest = {name: run(request).digest for name, request in results.items()}
    plain, bits = (
        read_table(StageFolder(request.stage).training_log)["loss"].to_pylist() for request in results.values()
    )
    assert bits == pytest.approx(plain, rel=0.05)
    assert bits != plain

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 5:
            raise KeyboardInterrupt

    broken = make_request("broken", settings={**settings, **EIGHT_BITS})
    with pytest.raises(KeyboardInterrupt):
        run(broken, progress=stop)
    resumed = run(broken)
    assert (resumed.steps, resumed.digest) == (2, digest["bits"])
    assert type(load_networks(broken).update.optimizer).__name__ == "AdamW8bit"
