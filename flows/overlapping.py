"""Which stages of a run overlap, by its config; a process alone does one thing after the other."""

from __future__ import annotations

from spin.core.config import Config


def trains_early(config: Config) -> bool:
    """Whether a training begins on the first images; where the opponent's errors are stored, that reads all first."""
    return _overlaps(config) and config.train.reference == "live"


def scores_later(config: Config) -> bool:
    """Whether a model's scores may come while the next one is made: a gate must see them before."""
    return _overlaps(config) and config.gate.mode == "off"


def _overlaps(config: Config) -> bool:
    return config.execution.overlap and config.execution.executor == "workers"
