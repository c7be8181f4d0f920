"""Reads the training log as an experienced eye would, and says it in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_WINDOW: Final = 20  # steps averaged; a single step of 32 pairs is noise
_SATURATED: Final = 0.98  # implicit accuracy: measured, an iteration is spent there
_RISE: Final = 1.15  # error over the start's; measured 2.5 at t = 800 where alignment was lost


def health(log: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Warnings for the newest steps of a log (rows of TRAINING_LOG) and of HELD_OUT_LOG; empty is well."""
    found = [_saturation(log), _pushing(log), *_overshoot(held_out)]
    return tuple(line for line in found if line)


def _saturation(log: Sequence[Mapping[str, Any]]) -> str:
    accuracy = _recent(log, "accuracy")
    if accuracy is None or accuracy < _SATURATED:
        return ""
    return f"margins saturated: implicit accuracy {accuracy:.2f}; this opponent is spent, switch to the next iteration"


def _pushing(log: Sequence[Mapping[str, Any]]) -> str:
    policy, opponent = _recent(log, "real_mse"), _recent(log, "real_mse_opponent")
    if policy is None or not opponent or policy < _RISE * opponent:
        return ""
    return (
        f"error on real images {policy / opponent:.2f} x the opponent's: pushing too hard; "
        "lower the learning rate, or raise beta or sft_weight"
    )


def _overshoot(held_out: Sequence[Mapping[str, Any]]) -> list[str]:
    if not held_out:
        return []
    newest = held_out[-1]["step"]
    return [
        f"held-out error at t = {row['timestep']} is {row['error'] / row['error_start']:.2f} x its start: "
        "overshoot; guidance will amplify it"
        for row in held_out
        if row["step"] == newest and row["error"] > _RISE * row["error_start"]
    ]


def _recent(log: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in log[-_WINDOW:] if row.get(name) is not None]
    return sum(values) / len(values) if len(values) == _WINDOW else None
