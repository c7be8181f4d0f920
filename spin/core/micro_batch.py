"""The largest micro-batch that fits, found by trying: doubled until one does not, then halved between the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """One size of a pass that was tried."""

    size: int  # pairs or images
    base_bytes: int  # in use before a pass: weights, gradients and moments
    peak_bytes: int | None  # the most in use; None where memory ran out
    rate: float  # pairs or images a second; 0.0 where memory ran out
    seconds: float  # that trying took

    def peak_of(self, size: int) -> float:
        """Of a larger pass, from above: all that a pass takes is taken to grow with it."""
        return self.base_bytes + ((self.peak_bytes or 0) - self.base_bytes) / self.size * size


@dataclass(frozen=True)
class Found:
    tried: Sequence[Tried]  # in their order
    complete: bool  # whether what is larger than the largest that fits does not fit, or is not asked for

    @property
    def fitting(self) -> list[Tried]:
        """Those that fit, the smallest first."""
        return sorted((one for one in self.tried if one.peak_bytes is not None), key=lambda one: one.size)

    @property
    def largest(self) -> int:
        """0 where not even one pair fits."""
        return max((one.size for one in self.fitting), default=0)

    @property
    def fastest(self) -> int:
        return max(self.fitting, key=lambda one: one.rate).size if self.fitting else 0


def find_largest(
    attempt: Callable[[int], Tried], *, most: int, limit_bytes: int, enforced: bool, seconds: float
) -> Found:
    """Try sizes until the largest that fits is known, or `seconds` would be over.

    Args:
        attempt: one optimizer step of one pass of a size, in a fresh state.
        most: the largest that is of use: a process's share of the batch.
        limit_bytes: what may be in use; a size that took more does not fit.
        enforced: whether the device refuses what is beyond the limit by itself. Where it does not, a size is only
            tried if it cannot pass the limit by what a smaller one took.
        seconds: for all tries together; a try is taken to last as long as the last one, times how much it is larger.
    """
    tried: list[Tried] = []
    fits, fails, spent = 0, most + 1, 0.0
    while fits + 1 < fails:
        size = min(2 * fits or 1, most) if fails > most else (fits + fails) // 2
        below = next((one for one in tried if one.size == fits), None)
        if below is not None:
            if not enforced and below.peak_of(size) > limit_bytes:
                fails = size
                continue
            if spent + below.seconds * size / below.size > seconds:
                return Found(tried, complete=False)
        one = attempt(size)
        spent += one.seconds
        if one.peak_bytes is not None and one.peak_bytes > limit_bytes:
            one = Tried(size, one.base_bytes, None, 0.0, one.seconds)
        tried.append(one)
        if one.peak_bytes is None:
            fails = size
        else:
            fits = size
    return Found(tried, complete=True)
