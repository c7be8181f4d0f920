"""Counts the work with a model from its architecture alone: operations by torch's counter, bytes by what is alive."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from spin.core.approximation import rows_asked
from spin.core.counted import Drawing, Drawn, Flops, Learning, Looking, Passes, Sizes, Trained
from spin.diffusion.checkpoint import DTYPES, vae_dtype
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.lora import WithoutAdapter, add_adapter
from spin.diffusion.objectives import squared_error
from spin.diffusion.reusing import reusing_deep_features
from spin.diffusion.skeleton import Skeleton, weights_of
from spin.diffusion.solvers import load_solver
from spin.diffusion.tally import AsOnGpu, Tally, gradients_standing, recompute_as_on_gpu

_T5_TOKENS: Final = 256  # its positions are relative, and its config names no length


def count_sizes(skeleton: Skeleton) -> Sizes:
    return Sizes(
        weights=weights_of(skeleton.network()),
        vae_weights=weights_of(skeleton.autoencoder()),
        text_weights=weights_of(*skeleton.text_encoders()),
        latent=math.prod(skeleton.latent_shape),
        prompt=sum(math.prod(shape) for shape in skeleton.prompt_shapes.values()),
        picture=skeleton.picture_size,
    )


@torch.no_grad()
def count_passes(skeleton: Skeleton) -> Passes:
    """Of SD-1.5, in TFLOP: denoised 0.803, encoded 1.117, decoded 2.515, prompt 0.013."""
    network, vae, prompt = skeleton.network(), skeleton.autoencoder(), Flops()
    for encoder in skeleton.text_encoders():
        prompt += _flops(partial(encoder, _tokens(encoder)))
    return Passes(
        denoised=_flops(lambda: _ask(skeleton, network, 1)),
        encoded=_flops(lambda: vae.encode(skeleton.pictures(1))),
        decoded=_flops(lambda: vae.decode(skeleton.latents(1))),
        prompt=prompt,
    )


def count_learning(skeleton: Skeleton, trained: Trained) -> Learning:
    """Of SD-1.5, all weights, in TFLOP: 2.407 an image, 3.002 with gradient checkpointing; 6.42 a pair."""
    policy, weights = skeleton.network(), weights_of(skeleton.network())
    if trained.lora_rank is not None:
        add_adapter(
            policy, rank=trained.lora_rank, alpha=1.0, layers=trained.lora_layers,
            attention=skeleton.family.attention, seed=0,
        )  # fmt: skip
    opponent: nn.Module | None = None
    if trained.pairs:
        shared = trained.opponent == "shared"  # what a stored one costs is asked before the training
        opponent = WithoutAdapter(policy) if shared else skeleton.network().requires_grad_(False)
    stored = trained.opponent == "stored"
    flops, alive = _learn(skeleton, policy, None if stored else opponent, trained)
    if stored:
        flops += _flops(lambda: _ask(skeleton, opponent, trained.images * trained.latents))
    copies = 0 if trained.dtype == "float32" or trained.recompute else 2 * weights_of(policy)  # autocast's, kept
    return Learning(
        flops=flops * (1 / (trained.images * trained.timesteps)),
        trained=sum(weight.numel() for weight in policy.parameters() if weight.requires_grad),
        adapter=weights_of(policy) - weights,
        pass_bytes=alive,
        image_bytes=max(alive - copies, 0) // trained.images,
    )


@torch.no_grad()
def count_drawing(skeleton: Skeleton, drawn: Drawn, passes: Passes) -> Drawing:
    """Of SD-1.5, in TFLOP a picture: 34.7 by 20 guided steps and decoding, 32.1 of its latents alone."""
    solver = load_solver(skeleton.folder, drawn.scheduler)
    solver.set_timesteps(drawn.steps)
    calls, dtype = drawn.approximation.calls(len(solver.timesteps), guided=drawn.guided), DTYPES[drawn.dtype]
    exact = passes.denoised * ((2 if drawn.guided else 1) * len(calls))  # PNDM asks once more than it has steps
    network = nn.Module.to(skeleton.network(), dtype)
    largest = drawn.batch * max(1 + call.guided for call in calls)
    alive, shallow = [_alive(network, lambda: _ask(skeleton, network, largest, dtype=dtype))], Flops()
    if drawn.approximation.reuse_every > 1:
        with reusing_deep_features(network) as features:
            # The second time what the first one left is remembered beside it.
            alive.append(_alive(network, lambda: [_ask(skeleton, network, largest, dtype=dtype) for _ in range(2)]))
            _ask(skeleton, network, 1, dtype=dtype)
            features.computed = False
            shallow = _flops(lambda: _ask(skeleton, network, 1, dtype=dtype))
    deep = tuple(call for call in calls if call.deep)
    denoised = passes.denoised * rows_asked(deep) + shallow * (rows_asked(calls) - rows_asked(deep))
    own = vae_dtype(skeleton.folder, drawn.dtype, encodes=drawn.encodings > 0)
    vae: Any = nn.Module.to(skeleton.autoencoder(), DTYPES[own])  # diffusers' own warns of nothing
    if drawn.decoded:
        alive.append(_alive(vae, lambda: vae.decode(skeleton.latents(drawn.batch, vae.dtype))))
    if drawn.encodings:
        alive.append(_alive(vae, lambda: vae.encode(skeleton.pictures(drawn.batch, vae.dtype))))
    return Drawing(
        denoised=denoised,
        vae=passes.decoded * drawn.decoded + passes.encoded * drawn.encodings,
        vae_dtype=own,
        batch_bytes=max(alive),
        vae_bytes=(drawn.decoded or drawn.encodings > 0) * vae.dtype.itemsize * weights_of(vae),
        saved=exact + denoised * -1,
    )


@torch.no_grad()
def count_preparing(skeleton: Skeleton, *, pictures: int, prompts: int) -> int:
    """Bytes on a GPU at the most while data is encoded in float32, in batches of so many: text, then pictures."""
    encoders, vae = skeleton.text_encoders(), skeleton.autoencoder()
    reading = [_alive(encoder, partial(encoder, _tokens(encoder).expand(prompts, -1))) for encoder in encoders]
    looking = _alive(vae, lambda: vae.encode(skeleton.pictures(pictures)))
    return max(4 * weights_of(*encoders) + max(reading, default=0), 4 * weights_of(vae) + looking)


@torch.no_grad()
def count_looking(model: Path | None) -> Looking:
    """diffusers' safety checker, a folder's or the published one: 0.16 TFLOP a picture, 1.2 GB of weights."""
    from spin.diffusion.safety import checker_without_weights  # diffusers' pipelines, only where somebody looks

    network = checker_without_weights(model)
    side = network.config.vision_config.image_size
    picture = torch.empty(1, 3, side, side, device="meta")

    def look() -> Tensor:
        seen: Tensor = network.visual_projection(network.vision_model(picture).pooler_output)
        return seen

    return Looking(_flops(look), 4 * weights_of(network), _alive(network, look))


def _learn(skeleton: Skeleton, policy: Any, opponent: Any, trained: Trained) -> tuple[Flops, int]:
    """Operations of a pass, and what is alive at once with the gradients of earlier passes standing.

    The loss itself is nothing beside the networks: any function of both errors stands for it.
    """
    autocast, latents = None if trained.dtype == "float32" else DTYPES[trained.dtype], trained.images * trained.latents
    if trained.recompute:
        recompute_as_on_gpu(policy, autocast)
    with gradients_standing(policy) as gradients:
        standing = [*policy.parameters(), *gradients, *([] if opponent is None else opponent.parameters())]
        with Tally(besides=standing) as tally:
            with AsOnGpu(autocast):
                error = squared_error(_ask(skeleton, policy, latents), skeleton.latents(latents))
                if opponent is not None:
                    with torch.no_grad():
                        theirs = squared_error(_ask(skeleton, opponent, latents), skeleton.latents(latents))
                    error = error - theirs
            error.sum().backward()
    return tally.flops, tally.peak_bytes


def _alive(network: nn.Module, work: Callable[[], object]) -> int:
    """The most bytes at once of a pass without gradients."""
    with Tally(besides=network.parameters()) as tally, AsOnGpu():
        work()
    return tally.peak_bytes


def _ask(skeleton: Skeleton, network: Any, latents: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the denoiser says of some latents."""
    noisy, times = skeleton.latents(latents, dtype), torch.zeros(latents, device="meta")
    return Denoiser(network, skeleton.family)(noisy, times, skeleton.prompts(latents, dtype))


def _tokens(encoder: nn.Module) -> Tensor:
    """One prompt of the length that pipelines pad to."""
    length = getattr(encoder.config, "max_position_embeddings", _T5_TOKENS)
    return torch.zeros(1, length, dtype=torch.long, device="meta")


def _flops(work: Callable[[], object]) -> Flops:
    with Tally() as tally:
        work()
    return tally.flops
