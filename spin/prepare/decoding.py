"""Picture bytes to RGB pixels of one size, whatever Pillow opens; every picture is decoded to its last line."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from spin.diffusion.decoding import load_picture, pixel_limit, rejecting, to_rgb
from spin.prepare.rows import Pixels


def decode(data: bytes, *, max_image_pixels: int) -> Image.Image:
    """Decode a whole picture, upright by its EXIF orientation, as RGB on white.

    The size is checked from the header, before a pixel is decoded.
    """
    with rejecting(len(data)), pixel_limit(max_image_pixels):
        return to_rgb(ImageOps.exif_transpose(load_picture(data)))


def fit(image: Image.Image, size: int) -> Pixels:
    """Shorter side to `size` (Lanczos), the centre square of it; (size, size, 3) uint8.

    Both in one resampling: a thread of 1 x 80 million pixels never becomes a gigantic picture between.
    """
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
