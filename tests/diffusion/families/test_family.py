"""What every family promises, each on a tiny real pipeline of its own."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from spin.diffusion.checkpoint import latent_scaling, load_denoiser, load_schedule, load_vae, write_checkpoint
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser, denoising_errors
from spin.diffusion.families.facts import facts_of, picture_size
from spin.diffusion.families.registry import check_model, family_of, read_configs
from spin.diffusion.noise import initial_noise
from spin.diffusion.sampler import decode_latents, encode_images, sample_latents
from spin.diffusion.solvers import load_solver
from spin.diffusion.text import PromptEncoder
from tests.diffusion.families.conftest import Kind

CAPTIONS = ["a large red star on a navy background", "a small cyan ring on a sand background"]
OWN = {"sd-v": "ddim", "sdxl": "euler", "sdxl-empty": "euler", "sd3": "euler", "sd3-without-t5": "euler"}


def told(kind: Kind, prompts: list[str]) -> Conditioning:
    return PromptEncoder.load(kind.folder, device="cpu").encode(prompts)


def theirs(pipeline: Any, noise: Tensor, *, output_type: str = "latent") -> Any:
    height, width = (8 * side for side in noise.shape[-2:])
    return pipeline(
        CAPTIONS, latents=noise, guidance_scale=3.0, num_inference_steps=6, output_type=output_type, height=height,
        width=width,
    ).images  # fmt: skip


def ours(folder: Path, given: Conditioning, nothing: Conditioning, noise: Tensor, *, solver: str) -> Tensor:
    return sample_latents(
        Denoiser(load_denoiser(folder, device="cpu"), family_of(folder)), load_solver(folder, solver), noise=noise,
        given=given, unconditional=nothing, guidance_scale=3.0, num_inference_steps=6,
    )  # fmt: skip


def test_a_whole_pipeline_is_taken_and_its_size_known(kind: Kind) -> None:
    check_model(kind.folder)
    assert facts_of(kind.folder).latent_shape == (4, 8, 8)
    assert picture_size(kind.folder, resolution=None) == 64


def test_prompts_are_encoded_as_the_pipeline_does(kind: Kind) -> None:
    given, nothing = told(kind, CAPTIONS), told(kind, [""])
    found = kind.pipeline.encode_prompt(
        *([CAPTIONS, None, None] if kind.name.startswith("sd3") else [CAPTIONS]),
        **({"device": "cpu", "num_images_per_prompt": 1} if kind.name == "sd-v" else {}),
        do_classifier_free_guidance=True,
    )
    expected = {"embedding": found[:2], "pooled": found[2:]}
    for name, values in given.tensors.items():
        torch.testing.assert_close(values, expected[name][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(nothing.tensors[name], expected[name][1][:1], atol=1e-5, rtol=0)
    assert (nothing.tensors["embedding"] == 0).all() == (kind.name == "sdxl")


def test_an_encoded_prompt_has_the_shapes_that_the_configs_tell(kind: Kind) -> None:
    family, configs = family_of(kind.folder), read_configs(kind.folder)
    given = told(kind, ["", *CAPTIONS])
    assert {name: tuple(values.shape[1:]) for name, values in given.tensors.items()} == family.given_shapes(configs)
    assert {name: values.shape[-1] for name, values in given.tensors.items()} == family.wanted_widths(configs)
    assert len(given) == 3


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 6, 10)])
def test_sampling_equals_the_familys_own_pipeline(
    kind: Kind, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise, given, nothing = initial_noise([1, 2], shape), told(kind, CAPTIONS), told(kind, [""])
    karras = () if family_of(kind.folder).flow else ("dpmsolver++karras", "eulerkarras", "edm")
    for solver in (OWN[kind.name], "dpmsolver++", *karras):
        monkeypatch.setattr(kind.pipeline, "scheduler", load_solver(kind.folder, solver))
        found = ours(kind.folder, given, nothing, noise, solver=solver)
        assert found.isfinite().all()
        torch.testing.assert_close(found, theirs(kind.pipeline, noise), atol=1e-5, rtol=1e-5)


def test_pictures_are_those_of_the_familys_own_pipeline(kind: Kind) -> None:
    noise, given, nothing = initial_noise([1, 2], (4, 8, 8)), told(kind, CAPTIONS), told(kind, [""])
    kind.pipeline.scheduler = load_solver(kind.folder, OWN[kind.name])
    latents = ours(kind.folder, given, nothing, noise, solver=OWN[kind.name])
    pixels = decode_latents(load_vae(kind.folder, device="cpu"), latents).numpy().astype(int)
    expected = (theirs(kind.pipeline, noise, output_type="np") * 255).round().astype(np.uint8)
    assert np.abs(pixels - expected).max() <= 1


def test_encoding_and_decoding_are_in_one_scale(kind: Kind) -> None:
    vae, (scaling, shift) = load_vae(kind.folder, device="cpu"), latent_scaling(kind.folder)
    pixels = torch.randint(0, 256, (1, 64, 64, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, _ = encode_images(vae, pixels)
    with torch.no_grad():
        expected = kind.pipeline.image_processor.postprocess(kind.pipeline.vae.decode(mean).sample, output_type="np")
    found = decode_latents(vae, (mean - shift) * scaling)
    assert np.abs(found.numpy().astype(int) - (expected * 255).round()).max() <= 1


def test_a_saved_model_opens_in_plain_diffusers_and_draws_the_same(kind: Kind, tmp_path: Path) -> None:
    network = load_denoiser(kind.folder, device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.01)
    write_checkpoint(tmp_path / "new", base=kind.folder, denoiser=network)
    check_model(tmp_path / "new")
    # diffusers asks to be told of each component that an SD3 goes without
    without = {} if kind.name != "sd3-without-t5" else {"text_encoder_3": None, "tokenizer_3": None}
    opened = DiffusionPipeline.from_pretrained(tmp_path / "new", **without)
    assert type(opened) is type(kind.pipeline)
    opened.set_progress_bar_config(disable=True)
    noise, given, nothing = initial_noise([1, 2], (4, 8, 8)), told(kind, CAPTIONS), told(kind, [""])
    solver = load_solver(kind.folder, OWN[kind.name])
    before = sample_latents(
        Denoiser(network, family_of(kind.folder)), solver, noise=noise, given=given, unconditional=nothing,
        guidance_scale=3.0, num_inference_steps=6,
    )  # fmt: skip
    opened.scheduler = load_solver(tmp_path / "new", OWN[kind.name])
    torch.testing.assert_close(before, theirs(opened, noise), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, ours(kind.folder, given, nothing, noise, solver=OWN[kind.name]), atol=1e-3)


def test_the_denoising_error_is_that_of_the_familys_own_training(kind: Kind) -> None:
    """As diffusers' training scripts write it: noise added by the scheduler, the target by its prediction type."""
    schedule, family = load_schedule(kind.folder, "cpu"), family_of(kind.folder)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t, given = torch.tensor([100, 900]), told(kind, CAPTIONS)
    network = load_denoiser(kind.folder, device="cpu")
    scheduler = type(kind.pipeline.scheduler).load_config(kind.folder, subfolder="scheduler")
    from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

    with torch.no_grad():
        found = denoising_errors(Denoiser(network, family), latents, noise, t, given, schedule)
        if family.flow:
            flow = FlowMatchEulerDiscreteScheduler.from_config(scheduler)
            times = flow.timesteps[999 - t]
            sigma = flow.sigmas[999 - t].view(-1, 1, 1, 1)
            noisy, wanted = sigma * noise + (1 - sigma) * latents, noise - latents
            said = network(
                noisy, timestep=times, encoder_hidden_states=given.tensors["embedding"],
                pooled_projections=given.tensors["pooled"],
            ).sample  # fmt: skip
        else:
            ddpm = DDPMScheduler.from_config(scheduler)
            noisy = ddpm.add_noise(latents, noise, t)
            wanted = ddpm.get_velocity(latents, noise, t) if kind.name == "sd-v" else noise
            added = {} if kind.name == "sd-v" else {
                "text_embeds": given.tensors["pooled"], "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2),
            }  # fmt: skip
            said = network(noisy, t, encoder_hidden_states=given.tensors["embedding"], added_cond_kwargs=added).sample
    torch.testing.assert_close(found, ((said - wanted) ** 2).mean(dim=(1, 2, 3)))
