"""The judges behind one small protocol; each says what it is and scores pictures against prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from spin.core.errors import DataError
from spin.miniature.attribute_checker import check_attributes
from spin.miniature.judges import load_aesthetic_judge, load_alignment_judge
from spin.miniature.world import IMAGE_SIZE, parse_caption

Pixels = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]
_READ_CAPTIONS: Final = ("attributes", "frechet_clean")  # they must know what a caption says to draw or check it


class Scorer(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        """(B, H, W, 3) uint8 pictures and their prompts -> (B,) scores."""


@dataclass(frozen=True)
class _Judge:
    name: str
    function: Callable[[Pixels, Sequence[str]], Scores]
    higher_is_better: bool = True

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        return self.function(images, prompts)


def scorer(name: str) -> Scorer:
    """A per-image judge by name."""
    return _SCORERS[name]


def per_image(names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` that score single images; the others measure the whole set."""
    return tuple(name for name in names if name in _SCORERS)


def features(images: Pixels) -> npt.NDArray[np.float64]:
    """(B, 64) features of the aesthetic judge's tower: what Frechet distance and diversity are measured in."""
    with torch.no_grad():
        found: Tensor = load_aesthetic_judge().features(_prepare(images))
    return found.double().numpy()


def refuse_strangers(names: Sequence[str], prompts: Sequence[str]) -> None:
    """Refuse a judge that cannot read these captions, before a picture is drawn for it."""
    unfit = next((name for name in names if name in _READ_CAPTIONS), None)
    stranger = next((prompt for prompt in prompts if parse_caption(prompt) is None), None)
    if unfit is not None and stranger is not None:
        raise DataError(
            f"not a caption of the miniature: {stranger!r}",
            where="evaluation.scorers",
            fix=f"leave `{unfit}` out of the scorers",
        )


def _alignment(images: Pixels, prompts: Sequence[str]) -> Scores:
    """100 x cosine of picture and caption."""
    with torch.no_grad():
        scores: Tensor = load_alignment_judge()(_prepare(images), prompts)
    return scores.double().numpy()


def _aesthetic(images: Pixels, _prompts: Sequence[str]) -> Scores:
    """10 x predicted quality."""
    with torch.no_grad():
        scores: Tensor = load_aesthetic_judge()(_prepare(images))
    return scores.double().numpy()


def _attributes(images: Pixels, prompts: Sequence[str]) -> Scores:
    """1 where size, colour, shape and background are all as the caption says, else 0; read from pixels."""
    refuse_strangers(("attributes",), prompts)
    height, width = images.shape[1:3]
    if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
        raise DataError(
            f"attributes are read at {IMAGE_SIZE} x {IMAGE_SIZE} pixels, not at {width} x {height}",
            where="evaluation.scorers",
            fix="leave `attributes` out of the scorers",
        )
    wanted = [parsed for prompt in prompts if (parsed := parse_caption(prompt)) is not None]
    right: Scores = np.all(check_attributes(images, wanted), axis=1).astype(np.float64)
    return right


def _prepare(images: Pixels) -> Tensor:
    scaled = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    if scaled.shape[-2:] == (IMAGE_SIZE, IMAGE_SIZE):
        return scaled
    return interpolate(scaled, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)


_SCORERS: dict[str, Scorer] = {
    judge.name: judge
    for judge in (_Judge("alignment", _alignment), _Judge("aesthetic", _aesthetic), _Judge("attributes", _attributes))
}
