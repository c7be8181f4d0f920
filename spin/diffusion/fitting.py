"""Trains passes of growing size until the memory of this machine is full: the largest micro-batch, by trying."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import torch

from spin.core.counted import Trained
from spin.core.environment import peak_bytes, reset_peak
from spin.core.memory import in_use, is_shortage
from spin.core.micro_batch import Found, Tried, find_largest
from spin.diffusion.checkpoint import load_denoiser
from spin.diffusion.lora import WithoutAdapter
from spin.diffusion.policy import laid_out, training_layout
from spin.diffusion.probe import Learner, training_pass

SHARE: Final = 0.9  # of what is free: another process may take some meanwhile
_STEPS: Final = 2  # of each size: the first one makes the moments, and pays for kernels


def largest_micro_batch(
    base: Path,
    trained: Trained,
    *,
    most: int,
    optimizer: str,
    averaged: bool,
    device: str,
    threads: int,
    seconds: float,
    limit_bytes: int | None = None,
    told: Callable[[Tried], None] = lambda _: None,
) -> Found:
    """Try passes of one pair, two, four...

    Args:
        trained: how the stage trains; its `images` are what is looked for.
        most: the largest size of use.
        averaged: whether an average of the weights is kept.
        seconds: that all tries may take.
        limit_bytes: what this process may have; None: 90 % of what is free, and what it has.
        told: hears of each try.
    """
    torch.set_num_threads(threads)
    limit = _limit(device) if limit_bytes is None else limit_bytes
    attempt = partial(_attempt, base, trained, optimizer=optimizer, averaged=averaged, device=device)

    def tell(size: int) -> Tried:
        found = attempt(size)
        told(found)
        return found

    with _enforced(device, limit) as enforced:
        return find_largest(tell, most=most, limit_bytes=limit, enforced=enforced, seconds=seconds)


def _limit(device: str) -> int:
    used, total = in_use(device)
    own = torch.cuda.memory_reserved() if device != "cpu" else psutil.Process().memory_info().rss
    return own + int(SHARE * (total - used))


@contextmanager
def _enforced(device: str, limit: int) -> Iterator[bool]:
    """Let a GPU's allocator refuse what is beyond the limit; a CPU has nothing of the kind, and swaps or kills."""
    if device == "cpu":
        yield False
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
    try:
        yield True
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _attempt(base: Path, trained: Trained, size: int, *, optimizer: str, averaged: bool, device: str) -> Tried:
    start = time.perf_counter()
    try:
        found = _trained(base, replace(trained, images=size), optimizer=optimizer, averaged=averaged, device=device)
    except Exception as error:
        if not is_shortage(error):
            raise
        found = (0, None, 0.0)
    _forget(device)
    return Tried(size, *found, time.perf_counter() - start)


def _trained(
    base: Path, trained: Trained, *, optimizer: str, averaged: bool, device: str
) -> tuple[int, int | None, float]:
    """Bytes before a pass and at most, and pairs or images a second: of the second of two steps of one pass each."""
    _forget(device)
    _reset_peak(device)
    learner = Learner.open(base, trained, optimizer=optimizer, device=device)
    opponent: Any = None
    if trained.opponent == "own":
        layout = training_layout(trained.dtype, optimizer=optimizer)
        opponent = laid_out(load_denoiser(base, device=device), layout)
    elif trained.opponent == "shared":
        opponent = WithoutAdapter(learner.network)
    kept, base_bytes = [weight.detach().clone() for weight in learner.weights] if averaged else [], 0
    # All time steps of a pair are alive at once in a training; here they are so many more images of one.
    images = trained.images * trained.timesteps
    learn = training_pass(base, learner.network, opponent, replace(trained, images=images), device)
    seconds = 0.0
    _forget(device)
    for _ in range(_STEPS):
        base_bytes = _now(device) + sum(weight.nbytes for weight in learner.weights)  # as before a pass of a long step
        begun = _clock(device)
        learn()
        learner.step()
        seconds = _clock(device) - begun
    kept.clear()
    return base_bytes, _peak(device), trained.images / seconds


def _forget(device: str) -> None:
    """Give back what a try had, so that the next begins as this one did."""
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
    else:
        _trim()


def _trim() -> None:
    """Let the system have what this process has freed."""
    with suppress(OSError, AttributeError):  # of glibc; elsewhere the peak of a smaller size may hold some of before
        ctypes.CDLL(None).malloc_trim(0)


def _clock(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def _now(device: str) -> int:
    if device != "cpu":
        return torch.cuda.memory_allocated()
    _trim()
    return int(psutil.Process().memory_info().rss)


def _peak(device: str) -> int:
    return torch.cuda.max_memory_reserved() if device != "cpu" else peak_bytes()


def _reset_peak(device: str) -> None:
    torch.cuda.reset_peak_memory_stats() if device != "cpu" else reset_peak()
