"""The learning rate as a function of the step, so that resuming needs no state."""

from __future__ import annotations


def learning_rate(step: int, *, lr: float, warmup_steps: int, steps: int, lr_schedule: str) -> float:
    """Rate of optimizer step `step` (from 1): linear warm-up, then constant or linear decay to 0.

    The paper's warm-up (200) is longer than its iteration 1 (50 steps): the rate then just ends at
    lr * 50 / 200.
    """
    if step <= warmup_steps:
        return lr * step / warmup_steps
    if lr_schedule == "constant":
        return lr
    return lr * (steps - step + 1) / max(steps - warmup_steps, 1)
