"""Full size on the meta device: every known architecture goes through what training does to it."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from pathlib import Path
from typing import Any

import pytest
import torch

from spin.diffusion.architectures.known import KNOWN
from spin.diffusion.checkpoint import load_denoiser, load_schedule
from spin.diffusion.denoiser import Denoiser, denoising_errors
from spin.diffusion.families.registry import read_configs
from spin.diffusion.objectives import spin_loss
from spin.diffusion.skeleton import Skeleton
from spin.miniature.packaged import packaged_pipeline_path

FOLDERS = [known.path for known in KNOWN]


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def full(request: pytest.FixtureRequest) -> tuple[Skeleton, Any]:
    skeleton = Skeleton.of(request.param)
    return skeleton, skeleton.network()


def test_nothing_is_stored(full: tuple[Skeleton, Any]) -> None:
    assert {weight.device.type for weight in full[1].parameters()} == {"meta"}


def test_a_denoiser_says_something_of_the_latents_own_shape(full: tuple[Skeleton, Any]) -> None:
    skeleton, network = full
    times = torch.zeros(2, device="meta")
    said = Denoiser(network, skeleton.family)(skeleton.latents(2), times, skeleton.prompts(2))
    assert said.shape == (2, *skeleton.latent_shape)


@pytest.mark.system
def test_a_step_of_self_play_gives_every_weight_a_gradient_of_its_shape(full: tuple[Skeleton, Any]) -> None:
    skeleton, policy = full
    schedule = load_schedule(skeleton.folder, "meta")
    draws = torch.zeros(1, dtype=torch.long, device="meta")

    def errors(network: Any) -> torch.Tensor:
        denoiser = Denoiser(network, skeleton.family)
        latents, noise = skeleton.latents(2), skeleton.latents(2)
        times = schedule.times(torch.cat([draws, draws]))
        return denoising_errors(denoiser, latents, noise, times, skeleton.prompts(2), schedule)

    real, generated = errors(policy).chunk(2)
    with torch.no_grad():
        real_opponent, generated_opponent = errors(policy).chunk(2)
    found = spin_loss(
        real_policy=real, real_opponent=real_opponent, generated_policy=generated,
        generated_opponent=generated_opponent, beta=2000.0,
    )  # fmt: skip
    assert found.loss.shape == (1,)
    found.loss.sum().backward()
    without = [name for name, weight in policy.named_parameters() if weight.grad is None]
    # SD3's last block looks at the picture alone; nothing of the text comes out of it
    assert all("context" in name for name in without), without
    assert all(w.grad.shape == w.shape for w in policy.parameters() if w.grad is not None)
    policy.zero_grad()


def test_the_config_of_a_network_builds_the_same_one(full: tuple[Skeleton, Any], tmp_path: Path) -> None:
    skeleton, network = full
    network.save_config(tmp_path)
    with torch.device("meta"):
        again = type(network).from_config(type(network).load_config(tmp_path))
    wanted, found = network.state_dict(), again.state_dict()
    assert list(found) == list(wanted)
    assert all(found[name].shape == wanted[name].shape for name in wanted)
    told = read_configs(skeleton.folder)[skeleton.family.denoiser]
    assert {name: again.config[name] for name in told if not name.startswith("_")} == {
        name: value for name, value in told.items() if not name.startswith("_")
    }


def test_a_picture_goes_through_the_autoencoder_and_comes_back(full: tuple[Skeleton, Any]) -> None:
    skeleton = full[0]
    vae = skeleton.autoencoder()
    posterior = vae.encode(skeleton.pictures(1)).latent_dist
    assert posterior.mean.shape == (1, *skeleton.latent_shape)
    assert vae.decode(posterior.mean).sample.shape == skeleton.pictures(1).shape


def test_a_model_with_weights_has_the_same_skeleton() -> None:
    skeleton = Skeleton.of(packaged_pipeline_path())
    assert (skeleton.latent_shape, skeleton.picture_size) == ((16, 4, 4), 32)
    loaded = load_denoiser(packaged_pipeline_path(), device="cpu")
    assert list(skeleton.network().state_dict()) == list(loaded.state_dict())
