"""Rates of this machine: from one batch, or one optimizer step, of each kind of work; or of matrix products alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from spin.core.gpus import Speed
from spin.diffusion.checkpoint import DTYPES, load_denoiser, load_schedule, load_vae
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser, denoising_errors
from spin.diffusion.families.facts import facts_of
from spin.diffusion.families.registry import family_of, read_configs
from spin.diffusion.sampler import decode_latents, encode_images, sample_latents
from spin.diffusion.solvers import load_solver

_ROUNDS: Final = 3
MOST_PASSES: Final = 8  # of a step that is measured; the optimizer's own share of a step is below 1 % of so many
CALLS: Final = 1 + _ROUNDS  # of each kind of work: the first one warms up
_SIDES: Final = {"cpu": 1024, "cuda": 8192}  # of the matrices that a device is measured with


@dataclass(frozen=True)
class Rates:
    """Seconds for one unit of work, and bytes of what it leaves."""

    sampled_image: float  # at the sampling guidance; latents only, or there and back through the VAE
    evaluated_image: float  # with decoding, at the evaluation guidance
    pair: float  # a SPIN training pair
    sft_image: float
    latent_bytes: int
    checkpoint_bytes: int  # what a new checkpoint adds to the disk


def measure(
    base: Path,
    *,
    sampling_guidance: float,
    sampling_steps: int,
    sampling_batch: int,
    evaluation_guidance: float,
    evaluation_steps: int,
    sampling_scheduler: str = "dpmsolver++",
    evaluation_scheduler: str = "dpmsolver++",
    roundtrip: bool = False,
    sft_batch: int,
    pair_batch: int,
    micro_batch: int,
    device: str,
    dtype: str = "float32",
    threads: int,
) -> Rates:
    """Run one batch of sampling and evaluation and one step of each training on the base model.

    Args:
        roundtrip: whether sampled images go through the VAE and back.
        sft_batch: images of a supervised step.
        pair_batch, micro_batch: pairs of a SPIN step, and of one of the passes of both.
        dtype: as the config's: sampling runs in it, training under its autocast.
    """
    torch.set_num_threads(threads)
    drawing = partial(_drawing_seconds, base, batch=sampling_batch, device=device, dtype=dtype, threads=threads)
    learning = partial(_learning_seconds, base, micro_batch=micro_batch, device=device, dtype=dtype, threads=threads)
    shape = facts_of(base).latent_shape
    return Rates(
        sampled_image=drawing(sampling_guidance, sampling_steps, sampling_scheduler, back=roundtrip),
        evaluated_image=drawing(evaluation_guidance, evaluation_steps, evaluation_scheduler, decoded=True),
        pair=learning(pair_batch, against_reference=True),
        sft_image=learning(sft_batch, against_reference=False),
        latent_bytes=4 * math.prod(shape),
        checkpoint_bytes=4 * sum(p.numel() for p in load_denoiser(base, device=device).parameters()),
    )


def matmul_speed(device: str, *, threads: int) -> Speed:
    """TFLOP/s of large matrix products here; a GPU's TF32 by its own switch, a CPU has none of it."""
    torch.set_num_threads(threads)
    single = _matmul(device, torch.float32, threads)
    half = _matmul(device, torch.bfloat16, threads)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        tf32 = _matmul(device, torch.float32, threads) if device != "cpu" else single
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    name = torch.cuda.get_device_name() if device != "cpu" else f"{threads} thread{'s' * (threads > 1)} of this CPU"
    return Speed(name, half, tf32, single, "measured")


def _drawing_seconds(
    base: Path, guidance: float, steps: int, scheduler: str, *, batch: int, device: str, dtype: str, threads: int,
    decoded: bool = False, back: bool = False,
) -> float:  # fmt: skip
    """Of one image of a batch; `back`: decoded and encoded again."""
    denoiser = Denoiser(load_denoiser(base, device=device, dtype=dtype), family_of(base))
    vae = load_vae(base, device=device, dtype=dtype, encodes=back) if decoded or back else None
    solver, given = load_solver(base, scheduler), _told(base, batch, device, dtype)

    def draw() -> None:
        noise = torch.randn(batch, *facts_of(base).latent_shape, device=device).to(given.dtype)
        latents = sample_latents(
            denoiser, solver, noise=noise, given=given, unconditional=given[:1], guidance_scale=guidance,
            num_inference_steps=steps,
        )  # fmt: skip
        if vae is not None:
            pictures = decode_latents(vae, latents)
            if back:
                encode_images(vae, pictures)

    return _seconds(draw, device=device, threads=threads) / batch


def _learning_seconds(
    base: Path, batch: int, *, micro_batch: int, device: str, dtype: str, threads: int, against_reference: bool
) -> float:
    """Of one image, or of one pair, in a step of `batch`; of a very long step the first passes alone."""
    network, schedule = load_denoiser(base, device=device).requires_grad_(True).train(), load_schedule(base, device)
    denoiser, micro = Denoiser(network, family_of(base)), min(micro_batch, batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)
    passes, images = min(math.ceil(batch / micro), MOST_PASSES), micro * (1 + against_reference)
    shape, given = facts_of(base).latent_shape, _told(base, images, device, "float32")

    def errors() -> Tensor:
        latents = torch.randn(images, *shape, device=device)
        steps = torch.randint(schedule.steps, (images,), device=device)
        with _autocast(device, dtype):
            return denoising_errors(denoiser, latents, torch.randn_like(latents), steps, given, schedule)

    def learn() -> None:
        for _ in range(passes):
            if against_reference:
                with torch.no_grad():
                    errors()
            errors().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return _seconds(learn, device=device, threads=threads) / (passes * micro)


def _told(base: Path, images: int, device: str, dtype: str) -> Conditioning:
    """Encoded prompts of the right shapes."""
    shapes = family_of(base).given_shapes(read_configs(base))
    return Conditioning.zeros(shapes, images, device=device, dtype=DTYPES[dtype])


def _autocast(device: str, dtype: str) -> AbstractContextManager[Any]:
    return nullcontext() if dtype == "float32" else torch.autocast(device, DTYPES[dtype])


def _matmul(device: str, dtype: torch.dtype, threads: int) -> float:
    side = _SIDES["cpu" if device == "cpu" else "cuda"]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2e-12 * side**3 / _seconds(lambda: left @ right, device=device, threads=threads)


def _seconds(work: Callable[[], object], *, device: str, threads: int) -> float:
    """Device seconds, as manifests have them: on a CPU what one thread worked, whatever else runs here."""

    def now() -> float:
        if device == "cpu":
            return time.process_time() / threads
        torch.cuda.synchronize()
        return time.perf_counter()

    def once() -> float:
        start = now()
        work()
        return now() - start

    once()  # warm-up: the first call pays for memory and kernels
    return min(once() for _ in range(_ROUNDS))
