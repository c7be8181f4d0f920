"""One optimizer step as a row of TRAINING_LOG. No time stands in it: equal runs give equal logs."""

from __future__ import annotations

from typing import Any

import torch

from spin.train.step import Measured


def log_row(step: int, measured: Measured, *, gradient_norm: float, lr: float) -> dict[str, Any]:
    """Means over the batch; `gradient_norm` before clipping."""
    margin = measured.margin
    columns = {
        "loss": measured.loss,
        "accuracy": None if margin is None else (margin > 0).float(),
        "margin": margin,
        "real_mse": measured.real,
        "generated_mse": measured.generated,
        "real_mse_opponent": measured.real_opponent,
        "generated_mse_opponent": measured.generated_opponent,
        "jensen_gap": measured.jensen_gap,
        "loser_scale": measured.loser_scale,
    }
    means = {name: values.mean() for name, values in columns.items() if values is not None}
    told = dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True))  # the device is asked once
    found = {name: told.get(name) for name in columns}
    return {"step": step, **found, "gradient_norm": gradient_norm, "lr": lr}
