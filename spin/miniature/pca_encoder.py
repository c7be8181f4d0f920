"""Writes an 8 x 8-patch PCA into the stock weights of AutoencoderKL's encoder.

Trained end to end from its default start, so small an autoencoder makes blobs for minutes. A linear
encoder is known in closed form, and a stock encoder can be made linear exactly enough:

- every residual branch ends in zero weights, so a block is its shortcut;
- the three strided convolutions gather 2 x 2 neighbours: 12 values, then 32 components of the 4 x 4
  patch, then the 16 components of the 8 x 8 patch;
- the last group norm is held still by loud constant channels, +A and -A in equal number, beside which
  the signal changes the variance by about 1e-4;
- SiLU falls out of pairs: silu(x) - silu(-x) = x.

Only the decoder is then trained, on cached latents.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from spin.miniature.renderer import Floats

_LOUD = 512.0
_LOG_VARIANCE = -9.0  # posterior std 0.011: a picture's latent is all but certain
_EQUALISE = 0.15  # component std ~ eigenvalue**0.15: between raw PCA (0.5) and white (0.0)


def write_pca_encoder(vae: AutoencoderKL, images: Tensor) -> None:
    """Replace the encoder's weights in place by the PCA of `images`, (N, 3, H, W) in [-1, 1].

    The latent channels then have mean 0 and unit variance on average over `images`.
    """
    patches = images.double().unfold(2, 8, 8).unfold(3, 8, 8)  # N C H/8 W/8 8 8
    patches = patches.permute(0, 2, 3, 4, 5, 1).reshape(-1, 8, 8, 3)
    small = patches.reshape(-1, 2, 4, 2, 4, 3).transpose(2, 3).reshape(-1, 48).numpy()
    first, first_mean, _ = _principal(small, 32)
    halfway = ((small - first_mean) @ first.T).reshape(-1, 4 * 32)
    last, last_mean, variance = _principal(halfway, vae.config.latent_channels)
    scale = variance ** (_EQUALISE - 0.5)
    scale /= np.sqrt(np.mean(variance * scale**2))
    with torch.no_grad():
        _write(vae.encoder, first, first_mean, last * scale[:, None], last_mean)


def _principal(rows: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """Largest principal directions (count, D), mean (D,) and variances (count,) of `rows` (N, D)."""
    mean = rows.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(rows - mean, rowvar=False))
    directions = vectors[:, ::-1][:, :count].T
    signs = np.sign(directions[np.arange(count), np.abs(directions).argmax(axis=1)])
    return directions * signs[:, None], mean, np.maximum(values[::-1][:count], 1e-8)


def _write(encoder: Any, first: Floats, first_mean: Floats, last: Floats, last_mean: Floats) -> None:
    for name, parameter in encoder.named_parameters():
        if name.endswith(("conv1.weight", "conv_shortcut.weight")) or "norm" in name:
            continue  # conv1 feeds only the silenced conv2; shortcuts and norms are set below or inert
        parameter.zero_()
    stages = encoder.down_blocks
    _pass_through(encoder.conv_in)
    for stage in stages:
        shortcut = stage.resnets[0].conv_shortcut
        if shortcut is not None:
            _pass_through(shortcut)
    _gather(stages[0].downsamplers[0].conv, torch.eye(12).reshape(12, 2, 2, 3))
    # (2, 2) positions of (2, 2, 3) values, ordered as rows and columns of the 4 x 4 patch
    matrix = torch.tensor(first).reshape(32, 2, 2, 2, 2, 3).transpose(2, 3)
    _gather(stages[1].downsamplers[0].conv, matrix.reshape(32, 2, 2, 12), bias=torch.tensor(-first @ first_mean))
    _write_pairs(
        stages[2].downsamplers[0].conv, torch.tensor(last).reshape(-1, 2, 2, 32), torch.tensor(-last @ last_mean)
    )
    _write_read_out(encoder, len(last))


def _pass_through(conv: nn.Conv2d) -> None:
    conv.weight.zero_()
    _bias(conv).zero_()
    centre = conv.kernel_size[0] // 2
    for channel in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[channel, channel, centre, centre] = 1.0


def _gather(conv: nn.Conv2d, matrix: Tensor, bias: Tensor | None = None) -> None:
    """Set a 3 x 3 stride-2 convolution to `matrix`, (out, 2, 2, in); diffusers pads right and below."""
    out, _, _, channels = matrix.shape
    conv.weight[:out, :channels, :2, :2] = matrix.permute(0, 3, 1, 2).to(conv.weight)
    if bias is not None:
        _bias(conv)[:out] = bias.to(conv.weight)


def _write_pairs(conv: nn.Conv2d, matrix: Tensor, bias: Tensor) -> None:
    """Each group of 8 channels holds +a -a +b -b and four constants +A +A -A -A."""
    for component in range(len(matrix)):
        for sign, channel in zip((1.0, -1.0), _pair(component), strict=True):
            conv.weight[channel, :32, :2, :2] = sign * matrix[component].permute(2, 0, 1).to(conv.weight)
            _bias(conv)[channel] = sign * bias[component]
    for group in range(len(matrix) // 2):
        loud = slice(8 * group + 4, 8 * group + 8)
        _bias(conv)[loud] = _LOUD * torch.tensor([1.0, 1.0, -1.0, -1.0])


def _write_read_out(encoder: Any, components: int) -> None:
    encoder.conv_norm_out.weight.zero_()
    encoder.conv_norm_out.bias.zero_()
    for component in range(components):
        plus, minus = _pair(component)
        encoder.conv_norm_out.weight[[plus, minus]] = _LOUD / np.sqrt(2)  # half the channels are loud
        encoder.conv_out.weight[component, plus, 1, 1] = 1.0
        encoder.conv_out.weight[component, minus, 1, 1] = -1.0
    encoder.conv_out.bias[components:] = _LOG_VARIANCE


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # diffusers' convolutions all have one
    return conv.bias


def _pair(component: int) -> tuple[int, int]:
    start = 8 * (component // 2) + 2 * (component % 2)
    return start, start + 1
