"""The miniature's learned judges: small CNNs trained on rendered pictures with true labels only.

They never see a model's output in training, so a model cannot have shaped them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from spin.miniature.judge_weights import judges_folder
from spin.miniature.tokenizer import world_words
from spin.miniature.world import BACKGROUNDS, COLOURS, SHAPES, SIZES

_WIDTHS: Final = (32, 64, 96, 128)
FEATURES: Final = 64

Judge = TypeVar("Judge", bound=nn.Module)


class Tower(nn.Module):
    """(B, 3, 32, 32) in [-1, 1] -> (B, 64) features."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for index, width in enumerate(_WIDTHS):
            layers += [
                nn.Conv2d(channels, width, 3, stride=min(index + 1, 2), padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(channels, FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.out(self.layers(images).mean(dim=(2, 3)))
        return features


class AlignmentJudge(nn.Module):
    """A CLIP in small: cosine between a picture and the bag of the caption's words."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()
        self.words = nn.EmbeddingBag(len(world_words()), FEATURES, mode="sum")
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def encode_images(self, images: Tensor) -> Tensor:
        return normalize(self.tower(images), dim=1)

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Unit vectors (B, 64); words that the world does not have are passed over."""
        index = {word: position for position, word in enumerate(world_words())}
        known = [[index[word] for word in caption.split() if word in index] for caption in captions]
        offsets = torch.tensor([0, *(len(ids) for ids in known)]).cumsum(0)[:-1]
        flat = torch.tensor([i for ids in known for i in ids], dtype=torch.long)
        return normalize(self.words(flat, offsets), dim=1)

    def forward(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """100 x cosine of each picture with its own caption, (B,)."""
        return 100 * (self.encode_images(images) * self.encode_captions(captions)).sum(dim=1)


class AestheticJudge(nn.Module):
    """Reads the renderer's quality off a picture; its features also carry the Frechet distance."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()
        self.quality = nn.Linear(FEATURES, 1)
        # Used in training only: they keep content, not just crispness, in the features.
        self.attributes = nn.ModuleList(
            nn.Linear(FEATURES, len(words)) for words in (SIZES, COLOURS, SHAPES, BACKGROUNDS)
        )

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.tower(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """10 x predicted quality, (B,)."""
        return 10 * self.quality(self.tower(images)).squeeze(1)


@cache
def load_alignment_judge() -> AlignmentJudge:
    """The packaged alignment judge, in float32 and frozen."""
    return _load(AlignmentJudge(), "alignment.safetensors")


@cache
def load_aesthetic_judge() -> AestheticJudge:
    """The packaged aesthetic judge, in float32 and frozen."""
    return _load(AestheticJudge(), "aesthetic.safetensors")


def _load(judge: Judge, name: str) -> Judge:
    judge.load_state_dict({key: value.float() for key, value in load_file(judges_folder() / name).items()})
    return judge.eval().requires_grad_(False)
