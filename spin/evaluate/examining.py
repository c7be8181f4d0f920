"""Examines the published judges one by one: their files fetched and verified, and a drawn picture scored."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from spin.core.config_rules import JUDGES
from spin.evaluate.checkpoints import Checkpoint
from spin.evaluate.pins import judge_version, pinned_sha256, weight_files
from spin.miniature.renderer import render
from spin.miniature.world import Attributes

SHOWN: Final = Attributes("large", "red", "circle", "navy")
_SIDE: Final = 512
# What each judge says of SD-1.5's pictures (paper, rebuttal: means of best of five on Pick-a-Pic's test prompts). No
# score of a picture that could travel with the package is published.
_PUBLISHED: Final[Mapping[str, str]] = {
    "pickscore": "21.2 on SD-1.5's pictures", "hpsv2": "0.270 on SD-1.5's pictures (v2.0)",
    "image_reward": "0.82 on SD-1.5's pictures", "aesthetic": "5.77 on SD-1.5's pictures",
}  # fmt: skip


def picture() -> Image.Image:
    """A clean picture of the miniature, 512 x 512: the same pixels on every machine."""
    pixels = render([SHOWN], np.array([1.0]), np.random.default_rng(0))[0]
    return Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)


def examinations(folder: Path | None, *, hps_version: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Name and examination of each judge; it tells what it found, or raises."""
    for judge in JUDGES["published"]:
        yield judge, lambda judge=judge: _examine(judge, folder, hps_version)  # type: ignore[misc]


def _examine(judge: str, folder: Path | None, hps_version: str) -> str:
    files = weight_files(judge, hps_version=hps_version)
    pinned = sum(pinned_sha256(file, folder) is not None for file in files)
    checkpoint = Checkpoint(judge, folder, hps_version)
    score = checkpoint.build().score([picture()], [SHOWN.caption]).item()
    gc.collect()  # four gigabytes before the next one comes
    version = judge_version(judge, folder, hps_version=hps_version)
    return (
        f"{len(files)} files, {pinned} pinned by sha256, weights {version}; {SHOWN.caption!r} scores {score:.4f}"
        f" (published: {_PUBLISHED[judge]}, none of this picture)"
    )
