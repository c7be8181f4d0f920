from __future__ import annotations

import numpy as np
import pytest

from spin.miniature.renderer import Pose, draw_coverage, render
from spin.miniature.world import BACKGROUNDS, COLOURS, SHAPES, Attributes, split_attributes


def upright(radius: float, *, x: float = 0.5, y: float = 0.5, angle: float = 0.0) -> Pose:
    return Pose(*(np.array([value]) for value in (x, y, radius, angle)))


def draw(quality: float, seed: int = 0, count: int = 32) -> np.ndarray:
    return render(split_attributes("test")[:count], np.full(count, quality), np.random.default_rng(seed))


def test_a_seed_gives_the_same_pixels() -> None:
    one, two, other = draw(0.5), draw(0.5), draw(0.5, seed=1)
    assert one.shape == (32, 32, 32, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_a_clean_picture_has_the_two_colours_of_its_caption() -> None:
    said = Attributes("large", "red", "square", "navy")
    pixels = render([said], np.ones(1), np.random.default_rng(0))[0]
    assert tuple(pixels[0, 0]) == BACKGROUNDS["navy"]
    assert tuple(pixels[16, 16]) == COLOURS["red"]


def test_a_circle_covers_its_area() -> None:
    coverage = draw_coverage(["circle"], upright(0.3))
    # pi * (0.95 * 0.3 * 32)**2 pixels
    assert coverage.sum() == pytest.approx(np.pi * (0.95 * 0.3 * 32) ** 2, rel=0.01)


def test_a_square_covers_its_area() -> None:
    # (2 * 0.84 * 0.3 * 32)**2 pixels
    assert draw_coverage(["square"], upright(0.3)).sum() == pytest.approx((2 * 0.84 * 0.3 * 32) ** 2, rel=0.03)


def test_a_ring_has_a_hole() -> None:
    coverage = draw_coverage(["ring"], upright(0.34))[0]
    assert coverage[16, 16] == 0
    assert coverage.max() == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_its_own_mirror_image_and_stays_inside(shape: str) -> None:
    coverage = draw_coverage([shape], upright(0.34))[0]
    np.testing.assert_allclose(coverage, coverage[:, ::-1], atol=1e-9)
    assert coverage[:2].max() == coverage[-2:].max() == 0


def test_a_triangle_and_a_heart_know_up_from_down() -> None:
    rows = np.arange(32)
    triangle, heart = (draw_coverage([shape], upright(0.3))[0].sum(axis=1) for shape in ("triangle", "heart"))
    # the widest row of a triangle is low, that of a heart is high
    assert rows[triangle.argmax()] > 16 > rows[heart.argmax()]


def test_a_star_has_five_points() -> None:
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    coverage = draw_coverage(["star"], upright(0.4), side=256)[0]
    radius = 0.4 * 0.9 * 256  # between notch (0.46) and tip (1.12)
    around = coverage[
        (128 - radius * np.cos(angles)).round().astype(int), (128 + radius * np.sin(angles)).round().astype(int)
    ]
    assert ((around > 0.5) & ~(np.roll(around, 1) > 0.5)).sum() == 5
    assert around[0] > 0.5  # one of them up


def test_a_pose_moves_and_turns_a_shape() -> None:
    middle, moved = (draw_coverage(["circle"], upright(0.2, x=x))[0] for x in (0.5, 0.5 + 4 / 32))
    np.testing.assert_allclose(moved[:, 4:], middle[:, :-4], atol=1e-9)
    turned = draw_coverage(["square"], upright(0.2, angle=np.pi / 2))[0]
    np.testing.assert_allclose(turned, draw_coverage(["square"], upright(0.2))[0], atol=1e-9)


def test_a_better_picture_has_more_contrast_and_less_noise() -> None:
    spread = [draw(quality).astype(float).std(axis=(1, 2, 3)).mean() for quality in (0.0, 0.5, 1.0)]
    assert spread == sorted(spread)
    corners = [draw(quality)[:, :3, :3].astype(float).std(axis=(1, 2)).mean() for quality in (0.0, 0.5, 1.0)]
    assert corners == sorted(corners, reverse=True)
    assert corners[-1] == 0
