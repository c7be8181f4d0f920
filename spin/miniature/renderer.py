"""Draws the miniature world: shapes from signed distances, made worse by a quality in [0, 1].

Quality 1 is a crisp picture; towards 0 it loses contrast and colour, turns, drifts, blurs and gets noisy.
The aesthetic judge learns to tell this number, so "better" has a ground truth.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spin.miniature.world import BACKGROUNDS, COLOURS, IMAGE_SIZE, SHAPES, SIZES, Attributes

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pose:
    """Where a shape stands: centre and radius in units of the image side, angle in radians, (N,) each."""

    x: Floats
    y: Floats
    radius: Floats
    angle: Floats


def render(attributes: Sequence[Attributes], quality: Floats, rng: np.random.Generator) -> Pixels:
    """Draw one picture per row.

    Args:
        attributes: what to show, N rows.
        quality: (N,) in [0, 1].
        rng: all randomness of pose, hue and noise.

    Returns:
        RGB pixels, (N, 32, 32, 3) uint8.
    """
    damage = 1.0 - quality
    pose = _draw_pose(attributes, damage, rng)
    coverage = draw_coverage([a.shape for a in attributes], pose)[..., None]
    foreground = _shift_hue([COLOURS[a.colour] for a in attributes], damage, rng)
    background = np.array([BACKGROUNDS[a.background] for a in attributes], float) / 255
    image = background[:, None, None] * (1 - coverage) + foreground[:, None, None] * coverage
    return _degrade(image, damage, rng)


def draw_coverage(shapes: Sequence[str], pose: Pose, side: int = IMAGE_SIZE) -> Floats:
    """Share of each pixel that the shape covers, (N, side, side) in [0, 1]."""
    axis = (np.arange(side) + 0.5) / side
    dx = axis[None, None, :] - pose.x[:, None, None]
    dy = axis[None, :, None] - pose.y[:, None, None]
    cos, sin = np.cos(pose.angle)[:, None, None], np.sin(pose.angle)[:, None, None]
    u = (cos * dx + sin * dy) / pose.radius[:, None, None]
    v = (cos * dy - sin * dx) / pose.radius[:, None, None]
    distance = np.empty_like(u)
    for shape in SHAPES:
        rows = [i for i, name in enumerate(shapes) if name == shape]
        distance[rows] = _DISTANCES[shape](u[rows], v[rows])
    pixels = distance * pose.radius[:, None, None] * side
    return np.clip(0.5 - pixels, 0.0, 1.0)


def _draw_pose(attributes: Sequence[Attributes], damage: Floats, rng: np.random.Generator) -> Pose:
    n = len(attributes)
    drift = (1.0 + 2.0 * damage) / IMAGE_SIZE
    radius = np.array([SIZES[a.size] for a in attributes])
    return Pose(
        x=0.5 + drift * rng.uniform(-1, 1, n),
        y=0.5 + drift * rng.uniform(-1, 1, n),
        radius=radius * rng.uniform(0.94, 1.06, n),
        angle=np.deg2rad(5.0 + 25.0 * damage) * rng.uniform(-1, 1, n),
    )


def _shift_hue(colours: Sequence[tuple[int, int, int]], damage: Floats, rng: np.random.Generator) -> Floats:
    shifts = 0.045 * damage * rng.uniform(-1, 1, len(colours))
    shifted = []
    for (red, green, blue), shift in zip(colours, shifts, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        shifted.append(colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value))
    return np.array(shifted)


def _degrade(image: Floats, damage: Floats, rng: np.random.Generator) -> Pixels:
    d = damage[:, None, None, None]
    gray = image.mean(axis=3, keepdims=True)
    image = image + 0.55 * d * (gray - image)
    image = 0.5 + (1 - 0.40 * d) * (image - 0.5)
    image = _blur(image, 1.3 * damage)
    image = image + 0.08 * d * rng.standard_normal(image.shape)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _blur(image: Floats, sigma: Floats) -> Floats:
    """Gaussian blur, one sigma per picture in pixels, edges repeated."""
    offsets = np.arange(-4, 5)
    kernel = np.exp(-0.5 * (offsets / np.maximum(sigma, 1e-3)[:, None]) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (4, 4)
        padded = np.pad(image, pad, mode="edge")
        side = image.shape[axis]
        windows = (padded.take(range(k, k + side), axis=axis) for k in range(9))
        image = sum((kernel[:, k, None, None, None] * w for k, w in enumerate(windows)), np.zeros_like(image))
    return image


# Signed distances in units of the radius; negative inside. v points down.
def _circle(u: Floats, v: Floats) -> Floats:
    return np.hypot(u, v) - 0.95


def _ring(u: Floats, v: Floats) -> Floats:
    return np.abs(np.hypot(u, v) - 0.76) - 0.24


def _square(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - 0.84


def _triangle(u: Floats, v: Floats) -> Floats:
    sides = (v - 0.62, *(np.cos(t) * u + np.sin(t) * v - 0.58 for t in (np.pi * 7 / 6, np.pi * 11 / 6)))
    return np.maximum.reduce(sides)


def _star(u: Floats, v: Floats) -> Floats:
    """Five points: fold the plane into one tenth, then the distance to one edge (outer 1.12, inner 0.46)."""
    wedge = np.pi / 5
    theta = np.abs((np.arctan2(u, -v) + wedge) % (2 * wedge) - wedge)
    x, y = np.hypot(u, v) * np.cos(theta), np.hypot(u, v) * np.sin(theta)
    tip, notch = (1.12, 0.0), (0.46 * np.cos(wedge), 0.46 * np.sin(wedge))
    edge = (notch[0] - tip[0], notch[1] - tip[1])
    return (edge[0] * (y - tip[1]) - edge[1] * (x - tip[0])) / -np.hypot(*edge)


def _heart(u: Floats, v: Floats) -> Floats:
    """Two round lobes over a right-angled tip whose edges touch them."""
    lobes = np.hypot(np.abs(u) - 0.44, v + 0.30) - 0.54
    tip = np.maximum(np.abs(u) + v - 0.904, np.abs(u) - v - 0.74) / np.sqrt(2)
    return np.minimum(lobes, np.maximum(tip, -0.30 - v))


_DISTANCES = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "heart": _heart, "ring": _ring,
}  # fmt: skip
