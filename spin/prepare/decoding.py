"""Picture bytes to RGB pixels of one size, whatever Pillow opens; every picture is decoded to its last line."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from spin.prepare.candidates import TOO_MANY_PIXELS, UNREADABLE, Rejected
from spin.prepare.rows import Pixels

# What Pillow's decoders were seen or documented to raise on damaged bytes; they are no mistakes of ours.
_DECODER_ERRORS: Final = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, MemoryError, struct.error, zlib.error, ImageCms.PyCMSError,
)  # fmt: skip


def decode(data: bytes, *, max_image_pixels: int) -> Image.Image:
    """Decode a whole picture, upright by its EXIF orientation, as RGB on white.

    The size is checked from the header, before a pixel is decoded.
    """
    try:
        with _pixel_limit(max_image_pixels), Image.open(io.BytesIO(data)) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Rejected(TOO_MANY_PIXELS, str(error).split(",")[0]) from error
    except UnidentifiedImageError as error:  # its text holds a memory address
        raise Rejected(UNREADABLE, f"{len(data)} bytes that are no picture") from error
    except _DECODER_ERRORS as error:
        raise Rejected(UNREADABLE, str(error).partition("\n")[0] or type(error).__name__) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: 16-bit and float scaled, not clipped; transparency on white."""
    if image.mode == "F" or image.mode[0] == "I":
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode in {"RGBa", "La"}:
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, size: int) -> Pixels:
    """Shorter side to `size` (Lanczos), the centre square of it; (size, size, 3) uint8.

    Both in one resampling: a thread of 1 x 80 million pixels never becomes a gigantic picture between.
    """
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))


def _eight_bits(values: np.ndarray, mode: str) -> Pixels:
    """16-bit grey is divided by 257; floats are taken as 0..1, or as 0..255 where one is greater than 1."""
    scaled = np.nan_to_num(values.astype(np.float64))
    if mode != "F":
        scaled = scaled / 257
    elif scaled.max() <= 1:
        scaled = scaled * 255
    return scaled.clip(0, 255).round().astype(np.uint8)


@contextmanager
def _pixel_limit(pixels: int) -> Iterator[None]:
    """Pillow's own limit, which also guards pictures inside pictures; its other warnings stay quiet."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
