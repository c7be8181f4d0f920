"""Reads size, colour, shape and background off the pixels; no learned weights, so no model can game it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from spin.miniature.renderer import Floats, Pixels, Pose, draw_coverage
from spin.miniature.world import BACKGROUNDS, COLOURS, IMAGE_SIZE, SHAPES, SIZES, Attributes

# The palette is compared at these losses of saturation and contrast, as the renderer makes them.
_DAMAGES: Final = (0.0, 0.15, 0.3, 0.45, 0.6)
_ANGLES: Final = np.deg2rad([-24.0, -16.0, -8.0, 0.0, 8.0, 16.0, 24.0])


def read_attributes(images: Pixels) -> list[Attributes]:
    """Attributes that each picture shows, from (N, 32, 32, 3) uint8 pixels."""
    pixels = images.astype(float) / 255
    background = _border_colour(pixels)
    foreground, coverage = _separate(pixels, background)
    figures = _match_templates(coverage)
    grounds = _nearest(background, BACKGROUNDS)
    colours = _nearest(foreground, COLOURS)
    return [Attributes(s, c, h, b) for (s, h), c, b in zip(figures, colours, grounds, strict=True)]


def check_attributes(images: Pixels, wanted: Sequence[Attributes]) -> npt.NDArray[np.bool_]:
    """Whether size, colour, shape and background are as wanted, (N, 4) bool."""
    found = np.array([a.indices for a in read_attributes(images)])
    return found == np.array([a.indices for a in wanted])


def _border_colour(pixels: Floats) -> Floats:
    ring = np.ones((IMAGE_SIZE, IMAGE_SIZE), bool)
    ring[2:-2, 2:-2] = False
    return np.asarray(np.median(pixels[:, ring], axis=1))


def _separate(pixels: Floats, background: Floats) -> tuple[Floats, Floats]:
    """Colour of the figure, (N, 3), and how much of each pixel it covers, (N, 32, 32)."""
    smooth = ndimage.gaussian_filter(pixels, (0, 0.6, 0.6, 0))
    offset = smooth - background[:, None, None]
    distance = np.linalg.norm(offset, axis=3).reshape(len(pixels), -1)
    strongest = np.argsort(distance, axis=1)[:, -24:]  # about a third of the smallest figure
    figure = np.take_along_axis(offset.reshape(len(pixels), -1, 3), strongest[..., None], axis=1)
    direction = np.median(figure, axis=1)
    energy = np.maximum((direction**2).sum(axis=1), 1e-4)
    coverage = np.einsum("nhwc,nc->nhw", offset, direction) / energy[:, None, None]
    return direction + background, np.clip(coverage, 0, 1)


def _match_templates(coverage: Floats) -> list[tuple[str, str]]:
    """Size and shape of the nearest drawn template after both are centred on their centroids."""
    centred = _centre(np.where(coverage > 0.25, coverage, 0.0)).reshape(len(coverage), -1)
    labels, templates = _templates()
    distance = (templates**2).sum(axis=1) - 2 * centred @ templates.T
    return [labels[i] for i in distance.argmin(axis=1)]


@cache
def _templates() -> tuple[list[tuple[str, str]], Floats]:
    labels = [(size, shape) for size in SIZES for shape in SHAPES for _ in _ANGLES]
    n = len(labels)
    middle = np.full(n, 0.5)
    radius = np.array([SIZES[size] for size, _ in labels])
    pose = Pose(x=middle, y=middle, radius=radius, angle=np.resize(_ANGLES, n))
    drawn = draw_coverage([shape for _, shape in labels], pose)
    drawn = ndimage.gaussian_filter(drawn, (0, 0.6, 0.6))
    return labels, _centre(np.where(drawn > 0.25, drawn, 0.0)).reshape(n, -1)


def _centre(maps: Floats) -> Floats:
    axis = np.arange(IMAGE_SIZE)
    mass = np.maximum(maps.sum(axis=(1, 2)), 1e-6)
    y = (maps.sum(axis=2) * axis).sum(axis=1) / mass
    x = (maps.sum(axis=1) * axis).sum(axis=1) / mass
    middle = (IMAGE_SIZE - 1) / 2
    shifts = zip(maps, middle - y, middle - x, strict=True)
    return np.stack([ndimage.shift(picture, (dy, dx), order=1) for picture, dy, dx in shifts])


def _nearest(colours: Floats, palette: dict[str, tuple[int, int, int]]) -> list[str]:
    names = list(palette)
    base = np.array(list(palette.values()), float) / 255
    gray = base.mean(axis=1, keepdims=True)
    worn = [0.5 + (1 - 0.40 * d) * (base + 0.55 * d * (gray - base) - 0.5) for d in _DAMAGES]
    distance = np.linalg.norm(colours[:, None] - np.concatenate(worn)[None], axis=2)
    return [names[i % len(names)] for i in distance.argmin(axis=1)]
