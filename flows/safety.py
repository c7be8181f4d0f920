"""What rooms are told about unsafe pictures, as the config says."""

from __future__ import annotations

from pathlib import Path

from spin.core.config import Config
from spin.core.safety import DIFFUSERS, Safety, safety_of
from spin.prepare.base import checker_folder, local_folder


def real_safety(config: Config) -> Safety | None:
    """For the real pictures; None where nobody looks at them."""
    return _safety(config, config.safety.real)


def generated_safety(config: Config) -> Safety | None:
    """For the models' pictures; None where nobody looks at them."""
    return _safety(config, config.safety.generated)


def _safety(config: Config, mode: str) -> Safety | None:
    if mode == "off":  # no model folder is looked for
        return None
    asked = config.safety
    place = asked.model or config.model.base
    model = checker_folder(place) if asked.checker == DIFFUSERS else Path(place)
    return safety_of(mode, checker=asked.checker, model=model)


def check_safety(config: Config) -> None:
    """Refuse a checker that is not there, as far as this machine knows: nothing is downloaded for it."""
    asked = config.safety
    if (asked.real, asked.generated) == ("off", "off"):
        return
    place = asked.model or config.model.base
    if asked.checker != DIFFUSERS or local_folder(place) is not None:
        real_safety(config)
        generated_safety(config)
