"""Ways to do the same work, timed side by side: A B A B in one process, raw seconds kept.

A ratio is that of the medians; its interval resamples whole rounds (percentile bootstrap), so that a disturbance that
all ways of a round met widens it once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil
import torch

from spin.core.environment import cpu_model, versions
from spin.core.statistics import Estimate, percentile_interval

RESAMPLES: Final = 10_000
MATMUL: Final = "matmul"
_BUSY: Final = 1.1  # load for each core above which other work was there too: the benchmark itself takes all cores
_STOLEN: Final = 0.05  # share of the cores' time that a virtual machine's host gave to others
_PRODUCT_SECONDS: Final = 1.0  # of the large products of a round: one by itself meets a core before its full clock


@dataclass(frozen=True)
class Way:
    """One way to do some work."""

    name: str
    run: Callable[[], object]
    units: float = 1.0  # images, pairs, shards, bytes that one call makes
    flops: float = 0.0  # floating-point operations of one unit, counted
    dtype: str = "float32"  # of what takes most of its time
    kind: str = ""  # ratios are told within one
    compiled: bool = False


@dataclass(frozen=True)
class Timed:
    """What a way took, round by round."""

    name: str
    units: float
    flops: float
    seconds: Sequence[float]
    first_seconds: float = 0.0  # of the call before the rounds: compiling, warming up
    dtype: str = "float32"
    kind: str = ""
    compiled: bool = False

    @property
    def each(self) -> np.ndarray:
        """Seconds for one unit in each round, (R,)."""
        return np.array(self.seconds) / self.units

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.each, share))

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    @property
    def is_ceiling(self) -> bool:
        """Whether it is a matrix product beside the others, in a unit of its own."""
        return self.name.startswith(MATMUL)

    @property
    def teraflops(self) -> float:
        """10**12 operations a second."""
        return self.flops / self.median * 1e-12


@dataclass(frozen=True)
class Check:
    """What a way gives beside what it is measured against."""

    what: str
    difference: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.allowed


@dataclass(frozen=True)
class Measured:
    """One benchmark of one profile: what stands in its JSON."""

    benchmark: str
    profile: str
    command: str
    unit: str
    timed: Sequence[Timed]
    against: Sequence[str] = ()  # the baselines that ratios are told to
    checks: Sequence[Check] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # batch, steps, dtype, counts
    machine: Mapping[str, Any] = field(default_factory=dict)
    load: Sequence[float] = ()  # average of a minute, before each round
    stolen: Sequence[float] = ()  # share of the cores' time that the host gave to others, in each round

    def of(self, name: str) -> Timed:
        return next(timed for timed in self.timed if timed.name == name)

    @property
    def counts(self) -> bool:
        """Whether all outputs are those of what they are measured against: else no speed does."""
        return all(check.holds for check in self.checks)

    @property
    def noisy(self) -> bool:
        """Whether other work took the cores meanwhile."""
        busy = max(self.load, default=0.0) > _BUSY * float(self.machine.get("cores", 1))
        return busy or max(self.stolen, default=0.0) > _STOLEN

    def share(self, timed: Timed) -> float | None:
        """Of the rate of matrix products in the same precision and run; None where either is not known."""
        product = next((each for each in self.timed if each.name == f"{MATMUL} {timed.dtype}"), None)
        return None if product is None or not timed.flops else timed.teraflops / product.teraflops

    def ratio(self, slow: str, fast: str) -> Estimate:
        """How many times as fast one way is, for each unit, with its 95 % interval over rounds."""
        return ratio(self.of(slow).each, self.of(fast).each)


def ratio(slow: np.ndarray, fast: np.ndarray, *, seed: int = 0) -> Estimate:
    """Median of `slow` by that of `fast`, (R,) each, paired by round."""
    picked = np.random.default_rng(seed).integers(len(slow), size=(RESAMPLES, len(slow)))
    resampled = np.median(slow[picked], axis=1) / np.median(fast[picked], axis=1)
    low, high = percentile_interval(resampled, level=0.95)
    return Estimate(float(np.median(slow) / np.median(fast)), float(low), float(high))


class Interleaved(NamedTuple):
    timed: list[Timed]
    load: list[float]  # before each round
    stolen: list[float]  # in each round


def interleave(ways: Sequence[Way], *, rounds: int, device: str = "cpu") -> Interleaved:
    """Every way once to warm up, then all of them in turn, round after round.

    What the warm-up takes more than a round is compiling, where a way compiles.
    """
    first = {way.name: _seconds(way, device) for way in ways}
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    load: list[float] = []
    stolen: list[float] = []
    for number in range(rounds):
        load.append(os.getloadavg()[0])
        before = _core_seconds()
        for way in ways:
            seconds[way.name].append(_seconds(way, device))
            told = f"round {number + 1} of {rounds}: {way.name} {seconds[way.name][-1] / way.units:.4g} s each"
            print(told, file=sys.stderr, flush=True)
        stolen.append(_stolen_since(before))
    timed = [Timed(w.name, w.units, w.flops, seconds[w.name], first[w.name], w.dtype, w.kind, w.compiled) for w in ways]
    return Interleaved(timed, load, stolen)


@contextmanager
def seconds_in(owner: type, method: str) -> Iterator[list[float]]:
    """Of each call of a class's method while the block runs."""
    seconds: list[float] = []
    call = getattr(owner, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, method, timed)
    try:
        yield seconds
    finally:
        setattr(owner, method, call)


def matmul(device: str, dtype: torch.dtype, *, side: int) -> Way:
    """Large matrix products on random data, in TFLOP: what a device reaches at most."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    name = str(dtype).removeprefix("torch.")
    once = Way("", lambda: left @ right)
    _seconds(once, device)
    times = max(1, round(_PRODUCT_SECONDS / _seconds(once, device)))

    def multiply() -> None:
        for _ in range(times):
            left @ right  # noqa: B018

    return Way(f"{MATMUL} {name}", multiply, units=2e-12 * side**3 * times, flops=1e12, dtype=name)


def _core_seconds() -> tuple[float, float]:
    """All time of all cores so far, and what of it the host gave to others; (0, 0) where the system does not tell."""
    times = psutil.cpu_times()
    return sum(times), float(getattr(times, "steal", 0.0))


def _stolen_since(before: tuple[float, float]) -> float:
    total, stolen = (now - then for now, then in zip(_core_seconds(), before, strict=True))
    return stolen / total if total else 0.0


def machine(device: str) -> dict[str, Any]:
    """What was measured on."""
    name = cpu_model() if device == "cpu" else torch.cuda.get_device_name()
    found = {"device": name, "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(), "platform": sys.platform}
    return {**found, "versions": versions()}


def write_measured(path: Path, measured: Measured) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(measured), indent=1, default=str) + "\n", "utf-8")


def read_measured(path: Path) -> Measured:
    raw = json.loads(path.read_text("utf-8"))
    timed = [Timed(**each) for each in raw.pop("timed")]
    return Measured(timed=timed, checks=[Check(**each) for each in raw.pop("checks")], **raw)


def _seconds(way: Way, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    way.run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
