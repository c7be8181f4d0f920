"""Picture bytes to RGB pixels of one size, whatever Pillow opens; every picture is decoded to its last line."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageOps

from spin.core.buckets import Size
from spin.core.plan import identity_hash
from spin.diffusion.decoding import load_picture, pixel_limit, rejecting, to_rgb
from spin.prepare.rows import Crop, Pixels

CENTER: Final = (0.5, 0.5)


def decode(data: bytes, *, max_image_pixels: int) -> Image.Image:
    """Decode a whole picture, upright by its EXIF orientation, as RGB on white.

    The size is checked from the header, before a pixel is decoded.
    """
    with rejecting(len(data)), pixel_limit(max_image_pixels):
        return to_rgb(ImageOps.exif_transpose(load_picture(data)))


def fit(image: Image.Image, size: Size, *, place: tuple[float, float] = CENTER) -> Pixels:
    """The largest part of the shape of `size`, resampled to it (Lanczos); (h, w, 3) uint8.

    Both in one resampling: a thread of 1 x 80 million pixels never becomes a gigantic picture between.

    Args:
        place: where the part lies, from 0, left or top, to 1, right or bottom; of a picture of that shape it is all.
    """
    return np.asarray(ImageOps.fit(image, (size.width, size.height), Image.Resampling.LANCZOS, centering=place))


def crop_place(identity: str, crop: Crop) -> tuple[float, float]:
    """Where the kept part of a row's picture lies: a function of its identity, never of the run, epoch or clock."""
    if crop == "center":
        return CENTER
    drawn = identity_hash("crop", identity)
    return int(drawn[:13], 16) / 16**13, int(drawn[13:26], 16) / 16**13
