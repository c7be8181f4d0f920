"""The probe counts what a step really does."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from spin.core.counted import Drawn, Trained
from spin.diffusion.optimizers import make_optimizer
from spin.diffusion.policy import open_policy
from spin.diffusion.probe import Rates, matmul_speed, measure
from spin.miniature.packaged import packaged_pipeline_path

SAMPLED = Drawn(batch=4, guided=False, steps=2, scheduler="dpmsolver++", decoded=False, encodings=0, dtype="float32")
SFT = Trained(
    images=8, pairs=False, own_opponent=False, timesteps=1, lora_rank=None, lora_layers="attention", recompute=False,
    dtype="float32",
)  # fmt: skip
PAIR = replace(SFT, pairs=True, own_opponent=True)


def probe(**changes: Any) -> Rates:
    asked: dict[str, Any] = {
        "sampled": SAMPLED, "evaluated": replace(SAMPLED, guided=True, decoded=True), "sft": SFT, "pair": PAIR,
        "sft_batch": 8, "pair_batch": 16, "optimizer": "adamw", "device": "cpu", "threads": 1,
    }  # fmt: skip
    return measure(packaged_pipeline_path(), **{**asked, **changes})


def test_a_pair_costs_more_than_an_image_and_drawing_with_guidance_more_than_without() -> None:
    found = probe()
    assert found.pair > found.sft_image > 0  # two images, and the reference's passes
    assert found.evaluated_image > found.sampled_image > 0  # two passes a step, and the decoder


def test_a_picture_that_goes_there_and_back_costs_the_autoencoder() -> None:
    once = replace(SAMPLED, steps=1)
    straight, back, twice = (probe(sampled=replace(once, decoded=n > 0, encodings=n)).sampled_image for n in (0, 1, 2))
    assert twice > back > 1.2 * straight


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_long_step_is_measured_by_its_first_passes_in_the_precision_of_the_run(dtype: str) -> None:
    sft, pair = (replace(trained, images=2, dtype=dtype) for trained in (SFT, PAIR))
    found = probe(pair_batch=2**20, sft_batch=2**20, sft=sft, pair=pair)
    assert 0 < found.sft_image < found.pair < 1  # seconds; a million images would take hours


def test_an_adapter_costs_fewer_gradients() -> None:
    whole, adapter = probe(), probe(sft=replace(SFT, lora_rank=2), pair=replace(PAIR, lora_rank=2))
    assert adapter.sft_image < 0.8 * whole.sft_image  # 0.43 to 0.50 were measured, and 0.64 to 0.72 of a pair
    assert adapter.pair < whole.pair


def test_what_trains_is_what_the_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[bool, int, str]] = []

    def optimize(trained: Sequence[torch.nn.Parameter], name: str, **values: Any) -> torch.optim.Optimizer:
        (network,) = opened
        made.append((network.is_gradient_checkpointing, sum(weight.numel() for weight in trained), name))
        return make_optimizer(trained, "adamw", **values)  # the other's library may not be here

    def opens(*given: Any, **named: Any) -> Any:
        opened[:] = [open_policy(*given, **named)]
        return opened[0]

    opened: list[Any] = []
    monkeypatch.setattr("spin.diffusion.probe.open_policy", opens)
    monkeypatch.setattr("spin.diffusion.probe.make_optimizer", optimize)
    probe(sft=replace(SFT, recompute=True), pair=replace(PAIR, lora_rank=2), optimizer="adamw_8bit")
    assert sorted(made) == [(False, 3_072, "adamw_8bit"), (True, 1_968_848, "adamw_8bit")]


def test_matrix_products_of_this_machine_are_measured() -> None:
    speed = matmul_speed("cpu", threads=1)
    assert 0.001 < speed.single < 10
    assert speed.tf32 == speed.single
    assert speed.half > 0
    assert speed.told.startswith("large matrix products on 1 thread of this CPU reach ")
