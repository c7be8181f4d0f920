from __future__ import annotations

import math

import numpy as np
import pytest

from spin.core.buckets import Buckets, Size, by_size, packed, unpacked


def test_the_sizes_of_sdxl_are_found_again() -> None:
    """Appendix I of arXiv 2307.01952 lists 40 sizes; these are those of a ratio to 2 that no larger one holds."""
    assert [tuple(size) for size in Buckets(1024, 64, 2.0).sizes] == [
        (704, 1408), (768, 1344), (832, 1216), (896, 1152), (960, 1088), (1024, 1024),
        (1088, 960), (1152, 896), (1216, 832), (1344, 768), (1408, 704),
    ]  # fmt: skip


@pytest.mark.parametrize("side", [32, 64, 512, 768, 1024])
@pytest.mark.parametrize("step", [8, 16, 32, 64])
@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0, 4.0])
def test_every_size_keeps_the_rules(side: int, step: int, ratio: float) -> None:
    sizes = Buckets(side, step, ratio).sizes
    if side % step == 0:
        assert Size(side, side) in sizes
    assert sizes == tuple(sorted(set(sizes)))
    assert {Size(size.width, size.height) for size in sizes} == set(sizes)
    for size in sizes:
        assert size.height % step == size.width % step == 0
        assert size.height * size.width <= side**2
        assert max(size) <= ratio * min(size)
        assert not any(o != size and o.height >= size.height and o.width >= size.width for o in sizes)


def test_a_ratio_of_one_leaves_the_square() -> None:
    assert Buckets(512, 64, 1.0).sizes == (Size(512, 512),)


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [
        (1, 1, (512, 512)), (4000, 3000, (576, 448)), (3000, 4000, (448, 576)), (1080, 1920, (384, 640)),
        (10, 5000, (384, 640)), (5000, 10, (640, 384)), (500, 512, (512, 512)),
    ],
)  # fmt: skip
def test_a_picture_takes_the_nearest_shape(height: int, width: int, wanted: tuple[int, int]) -> None:
    assert Buckets(512, 64, 2.0).nearest(height, width) == wanted


def test_near_is_measured_in_the_logarithm_and_of_two_the_lower_is_taken() -> None:
    buckets = Buckets(64, 16, 2.0)
    assert [tuple(size) for size in buckets.sizes] == [(48, 80), (64, 64), (80, 48)]
    middle = math.sqrt(80 / 48)
    assert buckets.nearest(1000, math.floor(1000 * middle)) == (64, 64)
    assert buckets.nearest(1000, math.ceil(1000 * middle)) == (48, 80)


def test_items_of_one_size_stand_together_in_their_order() -> None:
    assert by_size([3, 1, 5, 2, 7, 4], lambda item: item % 2) == [[3, 1, 5, 7], [2, 4]]
    assert by_size([], lambda item: item) == []


def test_packed_latents_come_back() -> None:
    values = np.arange(5 * 2 * 3 * 4, dtype=np.float32).reshape(5, 2, 3, 4)
    stored = packed(values, 16)
    assert stored.shape == (5, 2, 16)
    assert stored.dtype == np.float32
    assert (stored[..., 12:] == 0).all()
    assert np.array_equal(unpacked(stored, np.full((5, 2), (3, 4), np.int16)), values)


def test_latents_of_two_sizes_are_not_one_batch() -> None:
    with pytest.raises(AssertionError, match="several sizes"):
        unpacked(np.zeros((2, 4, 16), np.float32), np.array([(4, 4), (2, 8)], np.int16))
