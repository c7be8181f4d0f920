"""The denoising criterion: the same question to every model, and the answer worked by hand."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

import spin.diffusion.torchvision_guard  # noqa: F401
from spin.core.layout import EvaluationFolder, RealCache
from spin.core.plan import seed_of
from spin.core.progress import silent
from spin.core.schema import content_digest, read_table, read_tensors, write_table
from spin.core.store import commit, discard
from spin.diffusion.text import prompt_hash
from spin.evaluate import subject
from spin.evaluate.asked import pictures_of, read_prompts
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.room import run
from spin.evaluate.shards import evaluation_folder
from spin.evaluate.subject import resident_subject
from tests.evaluate.conftest import Ask, counted_loads
from tests.kernels import FLASH, heard
from tests.world import World


def draws(folder: EvaluationFolder) -> list[tuple[str, int, int]]:
    return [(r["prompt_id"], r["draw"], r["timestep"]) for r in read_table(folder.denoising(0)).to_pylist()]


def test_the_draws_are_the_same_for_two_models_and_for_other_settings(
    evaluated: tuple[EvaluateRequest, EvaluateResult], ask: Ask, other: dict[str, Any]
) -> None:
    base, second, seeded = (
        EvaluationFolder(e.folder) for e in (evaluated[1], run(ask(**other)), run(ask(seed=77, guidance_scale=1.0)))
    )
    assert draws(base) == draws(second) == draws(seeded)
    assert [draw for _, draw, _ in draws(base)] == [0, 1, 2] * 6
    assert len({t for _, _, t in draws(base)}) > 12
    errors = [read_table(found.denoising(0))["error"].to_pylist() for found in (base, second, seeded)]
    assert errors[0] != errors[1]
    assert errors[0] == errors[2]


def test_more_draws_keep_the_first_ones(evaluated: tuple[EvaluateRequest, EvaluateResult], ask: Ask) -> None:
    few = read_table(EvaluationFolder(evaluated[1].folder).denoising(0)).to_pylist()
    more = read_table(EvaluationFolder(run(ask(denoising_draws=4)).folder).denoising(0)).to_pylist()
    kept = {(r["prompt_id"], r["draw"]): r for r in more}
    for row in few:
        same = kept[row["prompt_id"], row["draw"]]
        assert same["timestep"] == row["timestep"]
        assert same["error"] == pytest.approx(row["error"], rel=1e-4)  # another place in the batch


def test_the_error_of_a_row_is_the_mean_squared_error_of_epsilon_worked_by_hand(
    evaluated: tuple[EvaluateRequest, EvaluateResult], world: World
) -> None:
    request, result = evaluated
    row = read_table(EvaluationFolder(result.folder).denoising(0)).to_pylist()[7]  # third prompt, second draw
    prompt = read_prompts(request)[2]
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


def test_a_subject_stays_until_another_one_comes(ask: Ask, other: dict[str, Any], world: World, tmp_path: Path) -> None:
    with counted_loads() as loads:
        first = resident_subject(ask())
        assert resident_subject(ask(seed=6, guidance_scale=1.0, shards=(1,), finish=False)) is first
        assert len(loads) == 1
        held = weakref.ref(first)
        del first
        resident_subject(ask(**other))
        assert held() is None  # two models are never held
        resident_subject(ask())
        resident_subject(ask(dtype="bfloat16"))
        resident_subject(ask(subject_digest="another"))
        shutil.copytree(world.cache.path, tmp_path / "real")
        resident_subject(ask(subject_digest="another", real=tmp_path / "real"))
        assert len(loads) == 6
        resident_subject(ask(subject_digest="another", real=tmp_path / "real"))
        assert len(loads) == 6
        latents = RealCache(tmp_path / "real").latents
        table = read_table(latents)
        discard(latents)
        commit(latents, lambda path: write_table(path, table.slice(0, 20)), kind="real", digest=content_digest)
        resident_subject(ask(subject_digest="another", real=tmp_path / "real"))
        assert len(loads) == 7
    assert len(subject._resident) == 1


def test_only_what_draws_needs_the_decoder_and_only_what_measures_needs_the_real_latents(ask: Ask) -> None:
    with counted_loads():
        run(ask())
        used = resident_subject(ask())
        assert {"vae", "latents"} <= vars(used).keys()
        discard(evaluation_folder(ask()).denoising(0))
        subject._resident.clear()
        run(ask())
        used = resident_subject(ask())
        assert "vae" not in vars(used)
        discard(evaluation_folder(ask()).images(0))
        subject._resident.clear()
        run(ask())
        assert "latents" not in vars(resident_subject(ask()))


def test_the_model_is_asked_with_the_named_kernel_and_its_vae_with_torchs_own(ask: Ask) -> None:
    found = {}
    for attention in ("auto", "math"):
        request = ask(attention=attention)
        prompts, subject = read_prompts(request), resident_subject(request)
        subject.text.know(["", *(prompt.prompt for prompt in prompts)])
        with heard() as drawing:
            subject.draw(pictures_of(prompts), request, silent)
        with heard() as measuring:
            list(subject.measure(prompts, request, silent))
        found[attention] = drawing.count(FLASH), measuring.count(FLASH)
    assert found["math"] == (2, 0)  # two batches of four are decoded, with one attention each
    assert found["auto"][0] > 2
    assert found["auto"][1] > 0
