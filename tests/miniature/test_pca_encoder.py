from __future__ import annotations

import numpy as np
import pytest
import torch

from spin.miniature.build import to_images, true_corpus
from spin.miniature.pca_encoder import write_pca_encoder
from spin.miniature.pipeline import build_autoencoder

IMAGES = to_images(true_corpus(400, 3).pixels)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    vae = build_autoencoder().eval()
    write_pca_encoder(vae, IMAGES)
    return vae


def encode(vae, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vae.encode(images).latent_dist.mean


def test_channels_have_mean_0_and_variance_1_on_average(vae) -> None:
    latents = encode(vae, IMAGES)
    assert latents.shape == (400, 16, 4, 4)
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 1e-2
    assert latents.var(dim=(0, 2, 3)).mean().item() == pytest.approx(1.0, rel=1e-2)


def test_the_stock_encoder_has_become_linear(vae) -> None:
    one, two = IMAGES[:8], IMAGES[8:16]
    halfway = encode(vae, (one + two) / 2)
    torch.testing.assert_close(halfway, (encode(vae, one) + encode(vae, two)) / 2, atol=5e-3, rtol=0)


def test_each_latent_sees_its_own_patch_only(vae) -> None:
    changed = IMAGES[:1].clone()
    changed[:, :, 8:16, 16:24] = -changed[:, :, 8:16, 16:24]
    moved = (encode(vae, changed) - encode(vae, IMAGES[:1])).abs().amax(dim=1)[0]
    assert moved[1, 2] > 0.1
    moved[1, 2] = 0
    assert moved.max() < 1e-3


def test_sixteen_numbers_hold_nearly_all_of_a_patch(vae) -> None:
    latents = encode(vae, IMAGES).permute(0, 2, 3, 1).reshape(-1, 16).double().numpy()
    patches = (
        IMAGES.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 4, 5, 1).reshape(len(latents), -1).double().numpy()
    )
    known = np.c_[latents, np.ones(len(latents))]
    guess = known @ np.linalg.lstsq(known, patches, rcond=None)[0]
    assert ((patches - guess) ** 2).mean() / patches.var(axis=0).mean() < 0.05


def test_the_posterior_is_all_but_certain(vae) -> None:
    with torch.no_grad():
        deviation = vae.encode(IMAGES[:4]).latent_dist.std
    assert deviation.min().item() == pytest.approx(np.exp(-4.5), rel=1e-3)  # log-variance -9
    assert deviation.max().item() == pytest.approx(np.exp(-4.5), rel=1e-3)


def test_the_same_pictures_give_the_same_weights() -> None:
    torch.manual_seed(0)
    again = build_autoencoder()
    write_pca_encoder(again, IMAGES)
    torch.manual_seed(0)
    other = build_autoencoder()
    write_pca_encoder(other, IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), other.parameters(), strict=True))
