from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import HeunDiscreteScheduler, StableDiffusionPipeline
from torch import Tensor

from spin.core.approximation import Approximation
from spin.core.config_evaluation import Scheduler
from spin.core.config_rules import REVERSE_SOLVERS
from spin.core.counted import network_calls
from spin.diffusion.checkpoint import load_schedule
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.families.stable_diffusion import FAMILY
from spin.diffusion.noise import initial_noise
from spin.diffusion.sampler import decode_latents, encode_images, posterior_sample, sample_latents
from spin.diffusion.schedules import Diffusion, add_noise
from spin.diffusion.solvers import load_solver
from tests.world import World

CAPTIONS = ["a large red star on a navy background", "a small cyan ring on a sand background"]


@pytest.fixture(scope="module")
def pipeline(world: World) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(world.base)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = load_solver(world.base)
    return pipeline


def ours(
    pipeline: StableDiffusionPipeline, world: World, noise: Tensor, *, scheduler: str = "dpmsolver++", **changes: Any
) -> Tensor:
    given, empty = told(pipeline)
    values = {
        "noise": noise, "given": given, "unconditional": empty, "guidance_scale": 1.0, "num_inference_steps": 20,
    }  # fmt: skip
    return sample_latents(Denoiser(pipeline.unet, FAMILY), load_solver(world.base, scheduler), **{**values, **changes})


def told(pipeline: StableDiffusionPipeline) -> tuple[Conditioning, Conditioning]:
    text, empty = pipeline.encode_prompt(CAPTIONS, "cpu", 1, True)
    return Conditioning({"embedding": text}), Conditioning({"embedding": empty[:1]})


@pytest.mark.parametrize("scheduler", [name for name in get_args(Scheduler) if name != "dpmsolver++"])
def test_the_loop_equals_diffusers_pipeline_with_every_solver(
    pipeline: StableDiffusionPipeline, world: World, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    noise = initial_noise([1, 2], (16, 4, 4))
    monkeypatch.setattr(pipeline, "scheduler", load_solver(world.base, scheduler))
    theirs = pipeline(
        CAPTIONS, latents=noise, guidance_scale=3.0, num_inference_steps=8, output_type="latent"
    ).images  # fmt: skip
    found = ours(pipeline, world, noise, scheduler=scheduler, guidance_scale=3.0, num_inference_steps=8)
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_the_loop_equals_diffusers_pipeline(
    pipeline: StableDiffusionPipeline, world: World, guidance_scale: float
) -> None:
    noise = initial_noise([1, 2], (16, 4, 4))
    asked = {"prompt": CAPTIONS, "latents": noise, "guidance_scale": guidance_scale, "num_inference_steps": 20}
    theirs = pipeline(**asked, output_type="latent").images
    found = ours(pipeline, world, noise, guidance_scale=guidance_scale)
    assert found.shape == (2, 16, 4, 4)
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)
    pictures = pipeline(**asked, output_type="np").images
    expected = (pictures * 255).round().astype(np.uint8)
    difference = np.abs(decode_latents(pipeline.vae, found).numpy().astype(int) - expected)
    assert difference.max() <= 1  # 1e-5 may fall on the two sides of a rounding
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(("guidance_scale", "rows"), [(1.0, 2), (0.0, 2), (3.0, 4)])
def test_without_guidance_one_half_runs(
    pipeline: StableDiffusionPipeline, world: World, guidance_scale: float, rows: int
) -> None:
    seen: list[int] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    ours(pipeline, world, initial_noise([1, 2], (16, 4, 4)), guidance_scale=guidance_scale, num_inference_steps=5)
    hook.remove()
    assert seen == [rows] * 5


def test_outside_the_interval_the_conditional_half_runs_alone(pipeline: StableDiffusionPipeline, world: World) -> None:
    seen: list[int] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    asked: dict[str, Any] = {"guidance_scale": 3.0, "num_inference_steps": 5}
    noise = initial_noise([1, 2], (16, 4, 4))
    ours(pipeline, world, noise, approximation=Approximation((0.2, 0.6)), **asked)
    hook.remove()
    assert seen == [2, 4, 4, 2, 2]  # calls are at 0.1, 0.3, 0.5, 0.7, 0.9


def test_an_interval_from_end_to_end_is_exact_and_an_empty_one_is_no_guidance(
    pipeline: StableDiffusionPipeline, world: World
) -> None:
    noise = initial_noise([1, 2], (16, 4, 4))

    def drawn(guidance_scale: float, **more: Any) -> Tensor:
        return ours(pipeline, world, noise, guidance_scale=guidance_scale, num_inference_steps=5, **more)

    assert torch.equal(drawn(3.0, approximation=Approximation((0.0, 1.0))), drawn(3.0))
    assert torch.equal(drawn(3.0, approximation=Approximation((0.0, 0.05))), drawn(1.0))
    assert not torch.equal(drawn(3.0, approximation=Approximation((0.2, 0.6))), drawn(3.0))


def test_states_on_the_way_are_those_that_the_approximated_solver_went_through(
    pipeline: StableDiffusionPipeline, world: World
) -> None:
    """What a reverse trajectory stores: the first state is the noise, and each call has one, left out or not."""
    noise, heard = initial_noise([1, 2], (16, 4, 4)), []
    asked: dict[str, Any] = {"num_inference_steps": 6, "scheduler": "ddim"}

    def hear(timestep: Tensor, state: Tensor) -> None:
        heard.append((int(timestep), state.clone()))

    last = ours(pipeline, world, noise, heard=hear, approximation=Approximation(reuse_every=2), **asked)
    assert torch.equal(heard[0][1], noise)
    assert len({timestep for timestep, _ in heard}) == 6
    assert not any(torch.equal(state, last) for _, state in heard)
    exact: list[Tensor] = []
    ours(pipeline, world, noise, heard=lambda _, state: exact.append(state.clone()), **asked)
    same = [torch.equal(one, other) for (_, one), other in zip(heard, exact, strict=True)]
    assert same == [True, True, False, False, False, False]  # the first call is exact, the second reuses


def test_a_solver_that_was_used_before_gives_the_same_again(pipeline: StableDiffusionPipeline, world: World) -> None:
    noise, solver = initial_noise([1, 2], (16, 4, 4)), load_solver(world.base)
    given, empty = told(pipeline)

    def draw(steps: int) -> Tensor:
        return sample_latents(
            Denoiser(pipeline.unet, FAMILY), solver, noise=noise, given=given, unconditional=empty, guidance_scale=1.0,
            num_inference_steps=steps,
        )  # fmt: skip

    first = draw(4)
    draw(3)
    assert torch.equal(draw(4), first)


def test_decoding_takes_scale_and_shift(pipeline: StableDiffusionPipeline) -> None:
    raw = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    plain = decode_latents(pipeline.vae, raw)
    pipeline.vae.register_to_config(scaling_factor=2.0, shift_factor=0.5)
    try:
        assert torch.equal(decode_latents(pipeline.vae, (raw - 0.5) * 2.0), plain)
    finally:
        pipeline.vae.register_to_config(scaling_factor=1.0, shift_factor=None)
    assert plain.dtype == torch.uint8
    assert plain.shape == (1, 32, 32, 3)


def test_encoding_gives_the_vaes_posterior(pipeline: StableDiffusionPipeline) -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, log_variance = encode_images(pipeline.vae, pixels)
    images = pipeline.image_processor.preprocess(pixels.numpy().astype(np.float32) / 255)
    with torch.no_grad():
        posterior = pipeline.vae.encode(images).latent_dist
    torch.testing.assert_close(mean, posterior.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_variance, posterior.logvar, atol=1e-5, rtol=0)


def test_a_posterior_draw_is_the_mean_and_one_deviation() -> None:
    # exp(0.5 * ln 4) = 2;  1 + 2 * 0.5 = 2
    draw = posterior_sample(torch.ones(1), torch.tensor([4.0]).log(), torch.tensor([0.5]))
    assert draw.item() == pytest.approx(2.0)


@pytest.mark.parametrize("scheduler", REVERSE_SOLVERS)
def test_a_solvers_states_are_the_forward_process_at_their_timesteps(world: World, scheduler: str) -> None:
    """A network that knows the image and the noise leads every solver along x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps."""
    generator = torch.Generator().manual_seed(0)
    image, noise = torch.randn(2, 1, 16, 4, 4, generator=generator)
    schedule, solver = load_schedule(world.base, "cpu"), load_solver(world.base, scheduler)
    assert isinstance(schedule, Diffusion)

    def at(timestep: Tensor) -> Tensor:
        return add_noise(image, noise, timestep.reshape(1), schedule.alphas_cumprod)

    def knowing(latents: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        alpha = schedule.alphas_cumprod[timestep]
        return ((latents - alpha.sqrt() * image) / (1 - alpha).sqrt(),)

    solver.set_timesteps(20)
    heard: list[tuple[Tensor, Tensor]] = []
    nothing = Conditioning({"embedding": torch.zeros(1, 1, 1)})
    sample_latents(
        Denoiser(knowing, FAMILY), solver, noise=at(solver.timesteps[0]), given=nothing, unconditional=nothing,
        guidance_scale=1.0, num_inference_steps=20, heard=lambda *state: heard.append(state),
    )  # fmt: skip
    assert [int(timestep) for timestep, _ in heard] == solver.timesteps.tolist()
    assert len({int(timestep) for timestep, _ in heard}) == 20
    for timestep, state in heard:
        torch.testing.assert_close(state, at(timestep), atol=2e-3, rtol=0)


@pytest.mark.parametrize("scheduler", get_args(Scheduler))
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_network_is_asked_as_often_as_is_counted(world: World, scheduler: str, steps: int) -> None:
    asked: list[float] = []

    def network(latents: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        asked.append(float(timestep))
        return (torch.zeros_like(latents),)

    nothing = Conditioning({"embedding": torch.zeros(1, 1, 1)})
    sample_latents(
        Denoiser(network, FAMILY), load_solver(world.base, scheduler), noise=initial_noise([1], (16, 4, 4)),
        given=nothing, unconditional=nothing, guidance_scale=1.0, num_inference_steps=steps,
    )  # fmt: skip
    assert len(asked) == network_calls(scheduler, steps)


def test_edm_is_algorithm_1_of_karras_over_its_equation_5(world: World) -> None:
    """By hand in float64, of a network that says a function of what it sees."""
    steps, noise = 6, initial_noise([1, 2], (16, 4, 4))

    def network(latents: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        return (torch.tanh(latents) * (0.5 + float(timestep) / 2000),)

    def slope(latents: Tensor, level: Tensor) -> Tensor:
        time = np.interp(float(level.log()), levels.log().numpy(), np.arange(len(levels)))
        return network(latents / (level**2 + 1).sqrt(), torch.tensor(time))[0]

    schedule = load_schedule(world.base, "cpu")
    assert isinstance(schedule, Diffusion)
    levels = (1 / schedule.alphas_cumprod.double() - 1).sqrt()
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (levels[-1] ** (1 / 7) + ramp * (levels[0] ** (1 / 7) - levels[-1] ** (1 / 7))) ** 7
    expected = noise.double() * sigmas[0]
    for now, then in zip(sigmas, [*sigmas[1:], torch.zeros(())], strict=True):
        first = slope(expected, now)
        ahead = expected + (then - now) * first
        expected = expected + (then - now) * (first + slope(ahead, then)) / 2 if then > 0 else ahead

    nothing, solver = Conditioning({"embedding": torch.zeros(1, 1, 1)}), load_solver(world.base, "edm")
    assert isinstance(solver, HeunDiscreteScheduler)
    found = sample_latents(
        Denoiser(network, FAMILY), solver, noise=noise, given=nothing, unconditional=nothing, guidance_scale=1.0,
        num_inference_steps=steps,
    )  # fmt: skip
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-3)


def test_pndm_repeats_a_timestep(world: World) -> None:
    """Why a reverse trajectory is refused with it."""
    solver = load_solver(world.base, "pndm")
    solver.set_timesteps(20)
    assert len(solver.timesteps) == 21 > len(set(solver.timesteps.tolist()))
