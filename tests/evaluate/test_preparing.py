"""How a judge sees a picture, held against the libraries that the references use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from spin.evaluate.preparing import CLIP_MEAN, CLIP_STD, longest_side_padded, rgb_then_floor_crop, round_crop_then_rgb

SIZES = [(512, 512), (640, 384), (333, 517), (224, 224), (72, 48), (225, 224), (224, 225), (1, 300), (1001, 3)]


def noise(size: tuple[int, int], channels: int = 3) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_the_floor_crop_is_transformers_own(size):
    expected = CLIPImageProcessorPil()(noise(size), return_tensors="pt").pixel_values[0]
    assert torch.allclose(rgb_then_floor_crop(noise(size)), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_the_round_crop_is_openai_clips_own(size, channels):
    reference = Compose([
        Resize(224, InterpolationMode.BICUBIC), CenterCrop(224), lambda image: image.convert("RGB"), ToTensor(),
        Normalize(CLIP_MEAN, CLIP_STD),
    ])  # fmt: skip
    image = noise(size, channels)
    assert torch.allclose(round_crop_then_rgb(image), reference(image), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_the_longest_side_fits_and_zeros_stand_around(size):
    pixels = longest_side_padded(Image.new("RGB", size, "white"), antialias=True)
    inside = (pixels * torch.tensor(CLIP_STD)[:, None, None] + torch.tensor(CLIP_MEAN)[:, None, None])[0]
    height, width = (max(1, round(side * 224 / max(size))) for side in reversed(size))
    assert pixels.shape == (3, 224, 224)
    assert (inside > 0.5).sum().item() == height * width
    left = (224 - width) // 2
    assert (inside[:, :left] < 1e-3).all()
