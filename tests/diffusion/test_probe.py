"""The probe counts what a step really does."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import spin.diffusion.probe as probe_module
from spin.core.counted import Drawn, Trained
from spin.diffusion.optimizers import make_optimizer
from spin.diffusion.policy import open_policy
from spin.diffusion.probe import Rates, matmul_speed, measure
from spin.miniature.packaged import packaged_pipeline_path

SAMPLED = Drawn(batch=1, guided=False, steps=1, scheduler="dpmsolver++", decoded=False, encodings=0, dtype="float32")
SFT = Trained(
    images=2, opponent=None, timesteps=1, lora_rank=None, lora_layers="attention", recompute=False,
    dtype="float32",
)  # fmt: skip
PAIR = replace(SFT, opponent="own")


@pytest.fixture
def seconds_are_flops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Counted work in the place of time: the same on a machine that is busy, and in every round."""
    monkeypatch.setattr("spin.diffusion.probe._ROUNDS", 1)
    with FlopCounterMode(display=False) as counter:
        monkeypatch.setattr("spin.diffusion.probe.time", SimpleNamespace(process_time=counter.get_total_flops))
        yield


def probe(**changes: Any) -> Rates:
    asked: dict[str, Any] = {
        "sampled": SAMPLED, "evaluated": replace(SAMPLED, guided=True, decoded=True), "sft": SFT, "pair": PAIR,
        "sft_batch": 2, "pair_batch": 2, "optimizer": "adamw", "attention": "auto", "device": "cpu", "threads": 1,
    }  # fmt: skip
    return measure(packaged_pipeline_path(), **{**asked, **changes})


def test_a_rate_is_in_seconds_of_one_thread_for_one_image_or_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count(step=6)  # seconds between two looks at the clock
    monkeypatch.setattr("spin.diffusion.probe.time", SimpleNamespace(process_time=lambda: next(ticks)))
    few, many = (probe(sampled=replace(SAMPLED, batch=2), sft_batch=4, threads=threads) for threads in (1, 2))
    assert (few.sampled_image, few.sft_image, few.pair) == (3.0, 1.5, 3.0)
    assert many.sft_image == 0.75


def test_the_denoiser_is_asked_by_the_named_kernel_and_the_vae_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def kernels() -> str:
        return "all" if torch.backends.cuda.flash_sdp_enabled() else "math"

    def spy(name: str) -> None:
        work = getattr(probe_module, name)
        monkeypatch.setattr(probe_module, name, lambda *a, **k: (asked.append(f"{name} {kernels()}"), work(*a, **k))[1])

    for name in ("sample_latents", "decode_latents", "denoising_errors"):
        spy(name)
    probe(attention="math")
    assert set(asked) == {"sample_latents math", "decode_latents all", "denoising_errors math"}


@pytest.mark.usefixtures("seconds_are_flops")
def test_a_pair_costs_more_than_an_image_and_drawing_with_guidance_more_than_without() -> None:
    found = probe()
    assert found.pair == pytest.approx((2 * 3 + 2) / 3 * found.sft_image, rel=0.02)  # forward, backward, the opponent
    assert found.evaluated_image > 2 * found.sampled_image  # two passes a step, and the decoder


@pytest.mark.usefixtures("seconds_are_flops")
def test_a_picture_that_goes_there_and_back_costs_the_autoencoder() -> None:
    once = replace(SAMPLED, steps=1)
    straight, back, twice = (probe(sampled=replace(once, decoded=n > 0, encodings=n)).sampled_image for n in (0, 1, 2))
    assert twice > back > 1.2 * straight


@pytest.mark.system
@pytest.mark.usefixtures("seconds_are_flops")
def test_a_long_step_is_measured_by_its_first_passes() -> None:
    sft, pair = (replace(trained, dtype="bfloat16") for trained in (SFT, PAIR))
    long, short = (probe(pair_batch=images, sft_batch=images, sft=sft, pair=pair) for images in (2**20, 2))
    assert (long.sft_image, long.pair) == (short.sft_image, short.pair)


@pytest.mark.usefixtures("seconds_are_flops")
def test_an_adapter_costs_fewer_gradients() -> None:
    whole, adapter = probe(), probe(sft=replace(SFT, lora_rank=2), pair=replace(PAIR, lora_rank=2))
    assert adapter.sft_image < 0.8 * whole.sft_image
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
