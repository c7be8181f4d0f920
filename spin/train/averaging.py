"""An opponent that moves slower than the iterates: the exponential average of their weights."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from typing import Final

import torch
from torch import nn

from spin.core.memory import explaining_shortage
from spin.core.store import commit, stands
from spin.diffusion.checkpoint import load_denoiser, verify_checkpoint, write_checkpoint
from spin.diffusion.digest import model_digest
from spin.train.identity import manifest_of
from spin.train.request import AverageRequest

_DEVICE: Final = "cpu"  # seconds there, and a GPU may be another's


def average_opponent(request: AverageRequest) -> str:
    """Write decay * opponent + (1 - decay) * iterate as a checkpoint, unless it stands; its digest."""
    identity = {"opponent": request.opponent_digest, "iterate": request.iterate_digest, "decay": request.decay}
    if not stands(request.target, identity):
        with explaining_shortage(request.memory_knobs, device=_DEVICE):
            denoiser = _averaged(request)
            commit(
                request.target,
                lambda folder: write_checkpoint(folder, base=request.iterate, denoiser=denoiser),
                kind="opponent",
                digest=model_digest,
                identity=identity,
            )
    return manifest_of(request.target).content_digest


@torch.no_grad()
def _averaged(request: AverageRequest) -> nn.Module:
    for folder in (request.opponent, request.iterate):
        verify_checkpoint(folder)
    average, iterate = (load_denoiser(folder, device=_DEVICE) for folder in (request.opponent, request.iterate))
    for kept, new in zip(average.parameters(), iterate.parameters(), strict=True):
        kept.mul_(request.decay).add_(new, alpha=1 - request.decay)
    return average
