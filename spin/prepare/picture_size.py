"""The side of the pictures that a model works on, from its configuration files alone; and how many fit a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from spin.core.errors import ArtifactError, ConfigError

TEXT_BATCH: Final = 64  # captions
_PIXELS_PER_BATCH: Final = 1 << 20


def picture_size(base: Path, *, resolution: int | None) -> int:
    """The model's own side, UNet sample size x VAE factor; SD-1.5: 64 x 8 = 512 pixels.

    The VAE's factor is 2 to the number of its halvings: 4 blocks, 3 halvings, factor 8.
    """
    factor = 2 ** (len(_read(base / "vae" / "config.json", "block_out_channels")) - 1)
    sample_size = _read(base / "unet" / "config.json", "sample_size")
    if not isinstance(sample_size, int):
        problem = f"the model has no square size of its own (sample_size {sample_size})"
        raise ConfigError(problem, where="model.base", fix="use a model with a square sample_size")
    own = sample_size * factor
    if resolution not in (None, own):  # the opponent draws at the model's own size: both sides must agree
        raise ConfigError(f"{resolution} is not the model's own {own}", where="data.resolution", fix="set it to null")
    return own


def picture_batch(size: int) -> int:
    """Pictures in one pass through the VAE: 64 of 32 x 32 (never more), 4 of 512 x 512, 1 of 1024 x 1024."""
    return max(1, min(64, _PIXELS_PER_BATCH // size**2))


def _read(path: Path, key: str) -> Any:  # noqa: ANN401  a JSON value
    try:
        return json.loads(path.read_text("utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"cannot read {key} of the base model", where=str(path), fix="restore the model folder"
        ) from error
