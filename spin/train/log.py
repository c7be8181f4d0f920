"""One optimizer step as a row of TRAINING_LOG. No time stands in it: equal runs give equal logs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spin.train.step import Measured


def log_row(step: int, measured: Measured, *, gradient_norm: float, lr: float) -> dict[str, Any]:
    """Means over the batch; `gradient_norm` before clipping."""
    margin = measured.margin
    return {
        "step": step,
        "loss": _mean(measured.loss),
        "accuracy": None if margin is None else _mean((margin > 0).float()),
        "margin": _mean(margin),
        "real_mse": _mean(measured.real),
        "generated_mse": _mean(measured.generated),
        "real_mse_opponent": _mean(measured.real_opponent),
        "generated_mse_opponent": _mean(measured.generated_opponent),
        "gradient_norm": gradient_norm,
        "lr": lr,
        "jensen_gap": _mean(measured.jensen_gap),
        "loser_scale": _mean(measured.loser_scale),
    }


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else float(values.mean())
