"""Whether models may stand in one table: the same kind of pipeline, latents, text and picture size. No torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spin.core.errors import ConfigError


@dataclass(frozen=True)
class Family:
    """What models must share for their pictures and losses to be comparable."""

    pipeline: str
    latent_channels: int
    latent_size: int
    text_width: int
    prediction: str

    @property
    def as_words(self) -> str:
        size = f"{self.latent_channels} x {self.latent_size} x {self.latent_size} latents"
        return f"{self.pipeline}, {size}, text {self.text_width}, predicts {self.prediction}"


def family_of(folder: Path) -> Family:
    """Read from the configs of a diffusers folder."""
    unet, scheduler = _json(folder / "unet" / "config.json"), _json(folder / "scheduler" / "scheduler_config.json")
    return Family(
        pipeline=str(_json(folder / "model_index.json").get("_class_name")),
        latent_channels=int(unet["in_channels"]),
        latent_size=int(unet["sample_size"]),
        text_width=int(unet["cross_attention_dim"]),
        prediction=str(scheduler.get("prediction_type", "epsilon")),
    )


def refuse_other_family(label: str, folder: Path, base: Path) -> None:
    """ConfigError where a model is of another family than the base, naming what differs."""
    mine, theirs = asdict(family_of(folder)), asdict(family_of(base))
    apart = [
        f"{name.replace('_', ' ')} {mine[name]} against {theirs[name]}" for name in mine if mine[name] != theirs[name]
    ]
    if apart:
        raise ConfigError(
            f"{label} is of another family than the base model: {', '.join(apart)}",
            where=str(folder), fix="compare it with models of its own family, or leave the arm out",
        )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        raise ConfigError("cannot be read", where=str(path), fix="restore the model folder") from None
