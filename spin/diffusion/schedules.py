"""How a picture is mixed with noise, and what a network should then say: a diffusion, or a rectified flow.

    diffusion  x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps     says eps, or v = sqrt(a_t) eps - sqrt(1 - a_t) x_0
    flow       x_t = (1 - s_t) x_0 + s_t eps               says v = eps - x_0

Time is an index 0..T-1 in both, more noise with more of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal, Protocol

import torch
from torch import Tensor

from spin.diffusion.families.registry import PREDICTION_TYPES

Law = Literal["model", "uniform"]


class Schedule(Protocol):
    """A model's own mixture of picture and noise."""

    @property
    def steps(self) -> int: ...

    def times(self, draws: Tensor) -> Tensor:
        """Uniform draws of 0..T-1 -> times after the law that training draws them by, (B,) int64."""

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t of each latent, (B, C, h, w)."""

    def wanted(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What a network should say of x_t, (B, C, h, w)."""

    def network_time(self, times: Tensor) -> Tensor:
        """Times as the network counts them, (B,)."""


@dataclass(frozen=True)
class Diffusion:
    """alphas_cumprod (T,) float32, and what the network predicts; times are uniform (Ho et al., arXiv 2006.11239)."""

    alphas_cumprod: Tensor
    prediction_type: str

    @property
    def steps(self) -> int:
        return len(self.alphas_cumprod)

    def times(self, draws: Tensor) -> Tensor:
        return draws

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return add_noise(latents, noise, times, self.alphas_cumprod)

    def wanted(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return denoising_target(latents, noise, times, self.alphas_cumprod, self.prediction_type)

    def network_time(self, times: Tensor) -> Tensor:
        return times


@dataclass(frozen=True)
class Flow:
    """Rectified flow, arXiv 2403.03206: sigmas (T,) float32, rising, shifted as the model's own scheduler shifts them.

    Its times are logit-normal, rf/lognorm(0.00, 1.00) of the paper's Table 1: the middle is asked more than the ends.
    """

    sigmas: Tensor
    law: Law = "model"

    @property
    def steps(self) -> int:
        return len(self.sigmas)

    def times(self, draws: Tensor) -> Tensor:
        return draws if self.law == "uniform" else logit_normal(self.steps).to(draws.device)[draws]

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        sigma = _column(self.sigmas[times], latents)
        return (1 - sigma) * latents + sigma * noise

    def wanted(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:  # noqa: ARG002  the same at all times
        return noise - latents

    def network_time(self, times: Tensor) -> Tensor:
        return self.sigmas[times] * self.steps


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Forward process x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps, Eq. (2.1)."""
    alpha = _column(alphas_cumprod[timesteps], latents)
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


def denoising_target(
    latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor, prediction_type: str
) -> Tensor:
    """What the network should say: the noise, or v = sqrt(a) eps - sqrt(1 - a) x_0 (arXiv 2202.00512)."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        alpha = _column(alphas_cumprod[timesteps], latents)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    raise ValueError(f"prediction type {prediction_type!r}: one of {', '.join(PREDICTION_TYPES)}")


@cache
def logit_normal(steps: int) -> Tensor:
    """Times of a logit-normal law by uniform draws, (T,) int64: draw i stands for the quantile (i + 1/2) / T.

    1 / (1 + exp(-z)) of a standard normal z, as a time of 0..T-1. Of 1000 draws 0 gives 35, 500 gives 500, 841 gives
    731. A function of the uniform draw, so that the law changes nothing else that training draws.
    """
    quantiles = [NormalDist().inv_cdf((index + 0.5) / steps) for index in range(steps)]
    return (torch.tensor(quantiles, dtype=torch.float64).sigmoid() * steps).long().clamp(0, steps - 1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
