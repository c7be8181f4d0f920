"""Rates of this machine: from one batch, or one optimizer step, of each kind of work; or of matrix products alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from spin.core.counted import Drawn, Trained
from spin.core.gpus import Speed
from spin.diffusion.attention import attending
from spin.diffusion.checkpoint import DTYPES, load_denoiser, load_schedule, load_vae
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser, denoising_errors
from spin.diffusion.families.facts import facts_of
from spin.diffusion.families.registry import family_of, read_configs
from spin.diffusion.lora import WithoutAdapter
from spin.diffusion.optimizers import make_optimizer
from spin.diffusion.policy import Adapter, open_policy, training_layout
from spin.diffusion.sampler import decode_latents, encode_images, sample_latents
from spin.diffusion.solvers import load_solver

_ROUNDS: Final = 3
MOST_PASSES: Final = 8  # of a step that is measured; the optimizer's own share of a step is below 1 % of so many
_GUIDED: Final = 7.5  # any scale above 1 costs the same
CALLS: Final = 1 + _ROUNDS  # of each kind of work: the first one warms up
_SIDES: Final = {"cpu": 1024, "cuda": 8192}  # of the matrices that a device is measured with


@dataclass(frozen=True)
class Rates:
    """Seconds for one unit of work."""

    sampled_image: float  # as the opponent draws: latents only, or there and back through the VAE
    evaluated_image: float  # with decoding
    pair: float  # a SPIN training pair, at one time step
    sft_image: float


@dataclass(frozen=True)
class Learner:
    """A policy and the optimizer of what is trained of it."""

    network: Any
    weights: Sequence[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer

    @classmethod
    def open(cls, base: Path, trained: Trained, *, optimizer: str, device: str) -> Learner:
        adapter = None if trained.lora_rank is None else Adapter(trained.lora_rank, 1.0, trained.lora_layers, seed=0)
        layout = training_layout(trained.dtype, optimizer=optimizer)
        network = open_policy(base, device=device, recompute=trained.recompute, adapter=adapter, layout=layout)
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        return cls(network, weights, make_optimizer(weights, optimizer, lr=0.0))

    def step(self) -> None:
        """All that a training does after its passes; no weight moves."""
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure(
    base: Path,
    *,
    sampled: Drawn,
    evaluated: Drawn,
    sft: Trained,
    pair: Trained,
    sft_batch: int,
    pair_batch: int,
    optimizer: str,
    attention: str,
    device: str,
    threads: int,
) -> Rates:
    """Run one batch of sampling and evaluation and one step of each training on the base model.

    Args:
        sft_batch, pair_batch: images of a supervised step, pairs of a SPIN step.
        optimizer, attention: as the config names them; the VAE's attention is always torch's choice.
    """
    torch.set_num_threads(threads)
    drawing = partial(_drawing_seconds, base, attention=attention, device=device, threads=threads)
    learning = partial(
        _learning_seconds, base, optimizer=optimizer, attention=attention, device=device, threads=threads
    )
    return Rates(
        sampled_image=drawing(sampled),
        evaluated_image=drawing(evaluated),
        pair=learning(pair, pair_batch),
        sft_image=learning(sft, sft_batch),
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


def _drawing_seconds(base: Path, drawn: Drawn, *, attention: str, device: str, threads: int) -> float:
    """Of one image of a batch."""
    batch, dtype, back = drawn.batch, drawn.dtype, drawn.encodings > 0
    denoiser = Denoiser(load_denoiser(base, device=device, dtype=dtype), family_of(base))
    vae = load_vae(base, device=device, dtype=dtype, encodes=back) if drawn.decoded or back else None
    solver, given = load_solver(base, drawn.scheduler), _told(base, batch, device, dtype)

    def draw() -> None:
        noise = torch.randn(batch, *facts_of(base).latent_shape, device=device).to(given.dtype)
        with attending(attention, device=device, dtype=dtype):
            latents = sample_latents(
                denoiser, solver, noise=noise, given=given, unconditional=given[:1],
                guidance_scale=_GUIDED if drawn.guided else 1.0, num_inference_steps=drawn.steps,
                approximation=drawn.approximation,
            )  # fmt: skip
        if vae is not None:
            pictures = decode_latents(vae, latents)
            for _ in range(drawn.encodings):
                encode_images(vae, pictures)

    return _seconds(draw, device=device, threads=threads) / batch


def _learning_seconds(
    base: Path, trained: Trained, batch: int, *, optimizer: str, attention: str, device: str, threads: int
) -> float:
    """Of one image, or of one pair at one time step, in a step of `batch`; of a very long step the first passes."""
    learner = Learner.open(base, trained, optimizer=optimizer, device=device)
    # An opponent of its own is as large as the policy: that one is asked in its place, and takes no memory more. One
    # whose errors are stored is asked as often, before the training.
    network, adapted = learner.network, trained.lora_rank is not None
    opponent = None if not trained.pairs else WithoutAdapter(network) if adapted else network
    learn_once = training_pass(base, network, opponent, trained, device)
    passes = min(math.ceil(batch / trained.images), MOST_PASSES)

    def learn() -> None:
        for _ in range(passes):
            learn_once()
        learner.step()

    with attending(attention, device=device, dtype=trained.dtype):
        return _seconds(learn, device=device, threads=threads) / (passes * trained.images)


def training_pass(base: Path, network: Any, opponent: Any, trained: Trained, device: str) -> Callable[[], None]:
    """One pass of training, forward and backward, at one time step of each image or pair.

    Args:
        opponent: asked of the same; None: nobody is.
    """
    images = trained.images * (1 + trained.pairs)
    shape, schedule = facts_of(base).latent_shape, load_schedule(base, device)
    given, dtype = _told(base, images, device, "float32"), trained.dtype
    policy = Denoiser(network, family_of(base))
    reference = None if opponent is None else Denoiser(opponent, family_of(base))

    def learn() -> None:
        latents = torch.randn(images, *shape, device=device)
        steps, noise = torch.randint(schedule.steps, (images,), device=device), torch.randn_like(latents)
        with _autocast(device, dtype):
            errors = denoising_errors(policy, latents, noise, steps, given, schedule)
            if reference is not None:
                with torch.no_grad():
                    denoising_errors(reference, latents, noise, steps, given, schedule)
        errors.mean().backward()

    return learn


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
