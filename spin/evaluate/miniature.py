"""The miniature's judges behind the same protocol as the published ones; trained on rendered pictures only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from spin.core.config_rules import READ_CAPTIONS
from spin.core.errors import DataError
from spin.evaluate.scorer import DEFAULT, Judgement, Options, Scorer
from spin.miniature.attribute_checker import check_attributes
from spin.miniature.judges import load_aesthetic_judge, load_alignment_judge
from spin.miniature.world import IMAGE_SIZE, parse_caption


def prepare(image: Image.Image) -> Tensor:
    """(3, H, W) in [-1, 1], at the picture's own size."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1


class Alignment(Scorer):
    """100 x cosine of picture and caption, by a CLIP in small."""

    name = "alignment"

    def __init__(self, options: Options = DEFAULT) -> None:
        super().__init__(prepare, options)
        self.tower = load_alignment_judge()

    @torch.inference_mode()
    def judge(self, pixels: Tensor, prompts: Sequence[str]) -> Judgement:
        images = self.tower.encode_images(_at_own_size(pixels))
        scores: Tensor = 100 * (images * self.tower.encode_captions(prompts)).sum(dim=1)
        return Judgement(scores, images)


class MiniatureAesthetic(Scorer):
    """10 x predicted quality; its features, (B, 64) and no unit vectors, are what Frechet distances are taken in."""

    name = "aesthetic"

    def __init__(self, options: Options = DEFAULT) -> None:
        super().__init__(prepare, options)
        self.tower = load_aesthetic_judge()

    @torch.inference_mode()
    def judge(self, pixels: Tensor, prompts: Sequence[str]) -> Judgement:  # noqa: ARG002
        features = self.tower.features(_at_own_size(pixels))
        return Judgement(10 * self.tower.quality(features).squeeze(1), features)


class AttributeCheck(Scorer):
    """1 where size, colour, shape and background are all as the caption says, else 0; read from pixels."""

    name: ClassVar[str] = "attributes"

    def __init__(self, options: Options = DEFAULT) -> None:
        super().__init__(prepare, options)

    def judge(self, pixels: Tensor, prompts: Sequence[str]) -> Judgement:
        refuse_strangers((self.name,), prompts)
        height, width = pixels.shape[2:]
        if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
            raise DataError(
                f"attributes are read at {IMAGE_SIZE} x {IMAGE_SIZE} pixels, not at {width} x {height}",
                where="evaluation.scorers",
                fix="leave `attributes` out of the scorers",
            )
        wanted = [parsed for prompt in prompts if (parsed := parse_caption(prompt)) is not None]
        images = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        right = np.all(check_attributes(images, wanted), axis=1)
        return Judgement(torch.from_numpy(right.astype(np.float32)))


def refuse_strangers(names: Sequence[str], prompts: Sequence[str]) -> None:
    """Refuse a judge that cannot read these captions, before a picture is drawn for it."""
    unfit = next((name for name in names if name in READ_CAPTIONS), None)
    stranger = next((prompt for prompt in prompts if parse_caption(prompt) is None), None)
    if unfit is not None and stranger is not None:
        raise DataError(
            f"not a caption of the miniature: {stranger!r}",
            where="evaluation.scorers",
            fix=f"leave `{unfit}` out of the scorers",
        )


def _at_own_size(pixels: Tensor) -> Tensor:
    if pixels.shape[-2:] == (IMAGE_SIZE, IMAGE_SIZE):
        return pixels
    return interpolate(pixels, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)
