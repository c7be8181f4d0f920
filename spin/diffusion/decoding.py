"""Opens pictures from bytes that nobody vouches for: the size is checked first, then every line is decoded."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError

from spin.core.rejecting import NOT_FINITE, TOO_MANY_PIXELS, UNREADABLE, Rejected

# What Pillow's decoders were seen or documented to raise on damaged bytes; they are no mistakes of ours.
_DECODER_ERRORS: Final = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, MemoryError, struct.error, zlib.error, ImageCms.PyCMSError,
)  # fmt: skip


@contextmanager
def rejecting(size_bytes: int) -> Iterator[None]:
    """Whatever a decoder raises in the block is a Rejected; `size_bytes` are those of the picture's file."""
    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Rejected(TOO_MANY_PIXELS, str(error).split(",")[0]) from error
    except UnidentifiedImageError as error:  # its text holds a memory address
        raise Rejected(UNREADABLE, f"{size_bytes} bytes that are no picture") from error
    except _DECODER_ERRORS as error:
        raise Rejected(UNREADABLE, str(error).partition("\n")[0] or type(error).__name__) from error


def load_picture(data: bytes) -> Image.Image:
    """The whole picture in its own mode; under a `pixel_limit` a bomb is refused by its header.

    Every line is decoded: `verify()` would miss four of five truncated JPEGs.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


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


@contextmanager
def pixel_limit(pixels: int) -> Iterator[None]:
    """Pillow's own limit, which also guards pictures inside pictures; its other warnings stay quiet.

    It holds for the whole process: threads share one block around all of them.
    """
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _eight_bits(values: npt.NDArray[Any], mode: str) -> npt.NDArray[np.uint8]:
    """16-bit grey is divided by 257; floats are taken as 0..1, or as 0..255 where one is greater than 1."""
    scaled = values.astype(np.float64)
    if not np.isfinite(scaled).all():
        raise Rejected(NOT_FINITE, "the picture holds NaN or infinity")
    if mode != "F":
        scaled = scaled / 257
    elif scaled.max() <= 1:
        scaled = scaled * 255
    return scaled.clip(0, 255).round().astype(np.uint8)
