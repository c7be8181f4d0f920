"""Says which pictures are unsafe, by diffusers' checker or by a callable of the user's."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors import SafetensorError
from transformers import CLIPConfig, CLIPImageProcessor

from spin.core.errors import ArtifactError, ConfigError
from spin.core.safety import DIFFUSERS, LOOKED_AT_ONCE, PARTS, Judge, Pixels, Safety, marked_function
from spin.diffusion.pictures import decode_image

# The published one's: CLIP ViT-L/14 (its model card; safety_checker/config.json of SD-1.5 says the same).
_VISION: Final = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 14,
}  # fmt: skip
_PROJECTION: Final = 768


@dataclass(frozen=True)
class Checker:
    """A judge of pictures by its name."""

    name: str
    judge: Judge

    def unsafe(self, pictures: Pixels) -> list[bool]:
        """One answer for each of (B, H, W, 3) uint8 pictures."""
        said = [bool(answer) for answer in self.judge(pictures)]
        if len(said) != len(pictures):
            raise ConfigError(
                f"{self.name} gave {len(said)} answers for {len(pictures)} pictures", where="safety.checker",
                fix="return one bool for each picture",
            )  # fmt: skip
        return said


def load_checker(safety: Safety, *, device: str) -> Checker:
    """The checker that a room is told of, ready to judge."""
    if safety.checker != DIFFUSERS:
        return Checker(safety.checker, marked_function(safety.checker))
    try:
        network = StableDiffusionSafetyChecker.from_pretrained(safety.model, subfolder=PARTS[0])
        processor = CLIPImageProcessor.from_pretrained(safety.model, subfolder=PARTS[1])
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"cannot load the safety checker: {str(error).partition(chr(10))[0]}", where=str(safety.model),
            fix="restore the folder",
        ) from error  # fmt: skip
    # It would warn of pictures that it turned black; it is given none to blacken.
    logging.getLogger("diffusers.pipelines.stable_diffusion.safety_checker").setLevel(logging.ERROR)
    return Checker(DIFFUSERS, _Concepts(network.to(device).eval(), processor, device))


def checker_without_weights(model: Path | None) -> Any:
    """diffusers' checker in its shapes alone.

    Args:
        model: folder that holds it; where there is none, the published one is taken.
    """
    here = model is not None and (model / PARTS[0]).is_dir()
    known = CLIPConfig(vision_config=_VISION, projection_dim=_PROJECTION)
    config = CLIPConfig.from_pretrained(model, subfolder=PARTS[0]) if here else known
    with torch.device("meta"):
        return StableDiffusionSafetyChecker(config).eval()


def unsafe_pictures(pictures: Sequence[bytes], safety: Safety, device: str) -> list[bool]:
    """One answer for each encoded picture."""
    checker = resident_checker(safety, device)
    batches = (pictures[start : start + LOOKED_AT_ONCE] for start in range(0, len(pictures), LOOKED_AT_ONCE))
    return [mark for batch in batches for mark in checker.unsafe(np.stack([decode_image(data) for data in batch]))]


def resident_checker(safety: Safety, device: str) -> Checker:
    """The checker, loaded once in a process: what is done about marked pictures does not make it another one."""
    return _loaded(replace(safety, drop=False), device)


@cache
def _loaded(safety: Safety, device: str) -> Checker:
    return load_checker(safety, device=device)


@dataclass(frozen=True)
class _Concepts:
    """diffusers' CLIP checker: true where a picture is nearer to one of 17 concepts than its threshold."""

    network: StableDiffusionSafetyChecker
    processor: CLIPImageProcessor
    device: str

    def __call__(self, pictures: Pixels) -> list[bool]:
        inputs = self.processor(list(pictures), return_tensors="pt").pixel_values.to(self.device)
        to_blacken = torch.zeros(len(pictures), 1)
        _, unsafe = self.network(clip_input=inputs, images=to_blacken)
        return list(unsafe)
