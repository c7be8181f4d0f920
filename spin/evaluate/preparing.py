"""How each judge wants a picture: small differences here move scores by more than models differ.

Every function takes a PIL image of any mode and size and gives (3, 224, 224) float32, normalised as CLIP.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.functional import InterpolationMode, resize

from spin.diffusion.decoding import to_rgb
from spin.evaluate.scorer import Preparation

SIDE: Final = 224
CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP's, used by all four
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)


# What the references take as it is; other modes (16 bits, floats, LAB) are made RGB first.
_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"})


def rgb_then_floor_crop(image: Image.Image) -> Tensor:
    """PickScore: RGB, shortest side to 224 by PIL's bicubic, centre crop rounded down, as transformers does."""
    resized = _shortest_side(_usual(image).convert("RGB"))
    return _normalised(_cropped(resized, (resized.width - SIDE) // 2, (resized.height - SIDE) // 2))


def round_crop_then_rgb(image: Image.Image) -> Tensor:
    """ImageReward and Aesthetic: resized in its own mode, centre crop rounded, RGB only then (OpenAI CLIP's transform).

    A palette is so resized without interpolation, and transparency is premultiplied before it is dropped.
    """
    resized = _shortest_side(_usual(image))
    left, top = (round((side - SIDE) / 2) for side in resized.size)
    return _normalised(_cropped(resized, left, top).convert("RGB"))


def longest_side_padded(image: Image.Image, *, antialias: bool) -> Tensor:
    """HPSv2: longest side to 224 by bicubic on float values, zeros around it to a square, normalised at last.

    The reference crashes on RGBA, and on pictures that are not square whose longest side is 224: here they are
    converted and padded as all others are.
    """
    pixels = _unit(_usual(image).convert("RGB"))
    height, width = pixels.shape[1:]
    scale = SIDE / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    if size != [height, width]:
        pixels = resize(pixels, size, InterpolationMode.BICUBIC, antialias=antialias)
    left, top = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    return _clip_units(pad(pixels, (left, SIDE - size[1] - left, top, SIDE - size[0] - top)))


def shared(preparation: Preparation, image: Image.Image) -> Preparation:
    """A preparation that gives this picture the same tensor; for square RGB pictures both crops are one."""
    if preparation is round_crop_then_rgb and image.mode == "RGB" and image.width == image.height:
        return rgb_then_floor_crop
    return preparation


def _usual(image: Image.Image) -> Image.Image:
    return image if image.mode in _MODES else to_rgb(image)


def _shortest_side(image: Image.Image) -> Image.Image:
    """The longer side is rounded down, as transformers and torchvision do; nothing at 224 already."""
    short = min(image.size)
    if short == SIDE:
        return image
    width, height = (SIDE if side == short else int(SIDE * side / short) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _cropped(image: Image.Image, left: int, top: int) -> Image.Image:
    return image.crop((left, top, left + SIDE, top + SIDE))


def _unit(image: Image.Image) -> Tensor:
    """(3, H, W) in 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _normalised(image: Image.Image) -> Tensor:
    return _clip_units(_unit(image))


def _clip_units(pixels: Tensor) -> Tensor:
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    return (pixels - mean[:, None, None]) / std[:, None, None]
