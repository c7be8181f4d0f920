"""The denoising criterion: the same question to every model, and the answer worked by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

import spin.diffusion.torchvision_guard  # noqa: F401
from spin.core.layout import EvaluationFolder
from spin.core.plan import seed_of
from spin.core.schema import read_table, read_tensors
from spin.diffusion.text import prompt_hash
from spin.evaluate.held_out import read_held_out
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.room import run
from tests.evaluate.conftest import Ask
from tests.world import World


def draws(folder: EvaluationFolder) -> list[tuple[str, int, int]]:
    return [(r["prompt_id"], r["draw"], r["timestep"]) for r in read_table(folder.denoising).to_pylist()]


def test_the_draws_are_the_same_for_two_models_and_for_other_settings(
    evaluated: tuple[EvaluateRequest, EvaluateResult], ask: Ask, other: dict[str, Any]
) -> None:
    base, second, seeded = (
        EvaluationFolder(e.folder) for e in (evaluated[1], run(ask(**other)), run(ask(seed=77, guidance_scale=1.0)))
    )
    assert draws(base) == draws(second) == draws(seeded)
    assert [draw for _, draw, _ in draws(base)] == [0, 1, 2] * 6
    assert len({t for _, _, t in draws(base)}) > 12
    errors = [read_table(found.denoising)["error"].to_pylist() for found in (base, second, seeded)]
    assert errors[0] != errors[1]
    assert errors[0] == errors[2]


def test_more_draws_keep_the_first_ones(evaluated: tuple[EvaluateRequest, EvaluateResult], ask: Ask) -> None:
    few = read_table(EvaluationFolder(evaluated[1].folder).denoising).to_pylist()
    more = read_table(EvaluationFolder(run(ask(denoising_draws=4)).folder).denoising).to_pylist()
    kept = {(r["prompt_id"], r["draw"]): r for r in more}
    for row in few:
        same = kept[row["prompt_id"], row["draw"]]
        assert same["timestep"] == row["timestep"]
        assert same["error"] == pytest.approx(row["error"], rel=1e-4)  # another place in the batch


def test_the_error_of_a_row_is_the_mean_squared_error_of_epsilon_worked_by_hand(
    evaluated: tuple[EvaluateRequest, EvaluateResult], world: World
) -> None:
    request, result = evaluated
    row = read_table(EvaluationFolder(result.folder).denoising).to_pylist()[7]  # third prompt, second draw
    prompt = read_held_out(request)[2]
    assert (row["prompt_id"], row["draw"]) == (prompt.prompt_id, 1)
    real, text = read_table(world.cache.latents), read_table(world.cache.text)
    index = real["sample_id"].to_pylist().index(prompt.prompt_id)
    unet = UNet2DConditionModel.from_pretrained(world.base, subfolder="unet").float()
    scaling = read_scaling(world)
    latent = torch.from_numpy(read_tensors(real, "latent_mean")[index].copy())[None] * scaling
    place = text["prompt_hash"].to_pylist().index(prompt_hash(prompt.prompt))
    embedding = torch.from_numpy(read_tensors(text, "embedding")[place].copy())[None]
    seed = seed_of("denoising", prompt.prompt_id, 1)
    t = seed % 1000
    assert row["timestep"] == t
    noise = torch.randn(latent.shape[1:], generator=torch.Generator().manual_seed(seed))[None]
    # scaled_linear betas of Stable Diffusion: 0.00085 to 0.012, linear in their square roots
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = torch.cumprod(1 - betas, 0)[t]
    noisy = signal.sqrt() * latent + (1 - signal).sqrt() * noise
    with torch.no_grad():
        predicted = unet(noisy, torch.tensor([t]), encoder_hidden_states=embedding).sample
    assert row["error"] == pytest.approx(((predicted - noise) ** 2).mean().item(), rel=1e-4)


def read_scaling(world: World) -> float:
    config = json.loads((world.base / "vae" / "config.json").read_text())
    assert config.get("shift_factor") is None
    return float(config["scaling_factor"])
