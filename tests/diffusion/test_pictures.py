from __future__ import annotations

import io

import numpy as np
from PIL import Image

from spin.diffusion.pictures import decode_image, encode_png


def test_pixels_come_back_bit_for_bit_and_always_in_the_same_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(encode_png(pixels)), pixels)
    assert encode_png(pixels) == encode_png(pixels.copy())
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (7, 5), "RGB")


def test_gray_pictures_are_read_as_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("L", (2, 2), 77).save(buffer, "PNG")
    assert decode_image(buffer.getvalue()).tolist() == [[[77] * 3] * 2] * 2
