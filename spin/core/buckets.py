"""Aspect-ratio buckets: sizes of about one area, of which each picture takes the one that is nearest to its shape.

A batch holds pictures of one bucket, so that none is padded. On disk all have the room of the largest, the model's own
square: a column of tensors has one width. Source: SDXL (arXiv 2307.01952), Section 2.3 and Appendix I.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Item = TypeVar("Item")


class Size(NamedTuple):
    """Of a picture or of its latents."""

    height: int
    width: int

    @property
    def words(self) -> str:
        return f"{self.height} x {self.width}"


@dataclass(frozen=True)
class Buckets:
    """All sizes whose sides are multiples of `step` and whose area is at most that of the square.

    Args:
        side: of the model's own square, in pixels; a multiple of `step`.
        step: in pixels.
        ratio: the most that the long side may be of the short one.
    """

    side: int
    step: int
    ratio: float

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """From the lowest to the tallest; those that lie within another are left out."""
        tall = [self._widest(height) for height in range(self.step, self.side**2 // self.step + 1, self.step)]
        within = [size for size in tall if size.width and max(size) <= self.ratio * min(size)]
        return tuple(size for size in within if not any(_lies_within(size, other) for other in within))

    def nearest(self, height: int, width: int) -> Size:
        """The bucket of a picture: the nearest in the logarithm of height to width; of two, the lower one."""
        return self.sizes[bisect_left(self._borders, height / width)]

    @cached_property
    def _borders(self) -> list[float]:
        """Height to width of what lies as near to a size as to the next."""
        shapes = [size.height / size.width for size in self.sizes]
        return [math.sqrt(low * high) for low, high in pairwise(shapes)]

    @property
    def identity(self) -> tuple[object, ...]:
        """What of the buckets the data's digest names."""
        return ("buckets", self.step, self.ratio)

    def _widest(self, height: int) -> Size:
        return Size(height, int(min(self.side**2 / height, self.ratio * height)) // self.step * self.step)


def by_size(items: Iterable[Item], size: Callable[[Item], Any]) -> list[list[Item]]:
    """Items of each size together; sizes as they are met, items in their order."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(size(item), []).append(item)
    return list(groups.values())


def packed(values: npt.NDArray[Any], area: int) -> npt.NDArray[Any]:
    """(..., h, w) -> (..., area): the h x w numbers in rows, behind them zeros."""
    flat = values.reshape(*values.shape[:-2], -1)
    return np.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, area - flat.shape[-1])])


def unpacked(values: npt.NDArray[Any], sizes: npt.NDArray[np.int16]) -> npt.NDArray[Any]:
    """(N, ..., area) of latents of one size -> (N, ..., h, w).

    Args:
        sizes: (N, 2), height and width of each.
    """
    assert (sizes == sizes[0]).all(), "latents of several sizes in one batch"
    height, width = sizes[0].tolist()
    return values[..., : height * width].reshape(*values.shape[:-1], height, width)


def _lies_within(size: Size, other: Size) -> bool:
    return size != other and size.height <= other.height and size.width <= other.width
