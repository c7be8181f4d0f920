"""Every random number as a function of identity: never of rank, micro-batch, worker or resume point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spin.core.plan import seed_of


@dataclass(frozen=True)
class TrainingDraws:
    """All that training draws for B visits: timestep, noises, posterior noises, dropped captions, flips."""

    timesteps: Tensor  # (B,) int64
    noise: Tensor  # (B, C, h, w), real side and, when shared, generated side
    noise_generated: Tensor  # (B, C, h, w), an independent one
    posterior: Tensor  # (B, C, h, w), of the real image's encoding
    posterior_generated: Tensor  # (B, C, h, w), of a round-tripped generated image
    caption_dropped: Tensor  # (B,) bool, one for the pair
    flipped: Tensor  # (B,) bool, one for the pair


def initial_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Starting noise of generated images, (B, *shape) float32, one CPU generator per image.

    As diffusers draws it from the same seeds. torch's CPU generator reads the low 32 bits of a seed: of a
    million images about 100 pairs start from the same noise, each under its own caption.
    """
    return torch.stack([torch.randn(shape, generator=_generator(seed)) for seed in seeds])


def drawn_noise(draws: Sequence[tuple[int, int, int]], shape: tuple[int, ...]) -> Tensor:
    """Starting noise of image `draw` of `count` of one generator for each (seed, draw, count), (B, *shape) float32.

    As diffusers draws it for `num_images_per_prompt` from one generator on the CPU, in float32: all of them at once.
    (torch fills the last 16 numbers anew, so the first images of fewer need not be the same.)
    """
    return torch.stack([torch.randn((count, *shape), generator=_generator(seed))[draw] for seed, draw, count in draws])


def training_draws(
    visits: Sequence[tuple[str, int]],
    *,
    run_seed: int,
    stage: str,
    shape: tuple[int, ...],
    timesteps: int,
    caption_dropout: float,
    flip: bool,
    repeat: int = 0,
) -> TrainingDraws:
    """Draws for (sample id, visit) pairs; options change what is used, never what others draw.

    Args:
        repeat: number of the draw among several for one visit; the first is what a single one draws.
    """
    again = () if repeat == 0 else (repeat,)
    columns: list[list[Tensor]] = [[] for _ in range(5)]
    dropped: list[bool] = []
    flipped: list[bool] = []
    for sample_id, visit in visits:
        generator = torch.Generator().manual_seed(seed_of("train", run_seed, stage, sample_id, visit, *again))
        uniforms = torch.rand(2, generator=generator)
        columns[0].append(torch.randint(timesteps, (), generator=generator))
        for column in columns[1:]:
            column.append(torch.randn(shape, generator=generator))
        dropped.append(bool(uniforms[0] < caption_dropout))
        flipped.append(flip and bool(uniforms[1] < 0.5))
    t, noise, noise_generated, posterior, posterior_generated = (torch.stack(column) for column in columns)
    return TrainingDraws(
        t, noise, noise_generated, posterior, posterior_generated, torch.tensor(dropped), torch.tensor(flipped)
    )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
