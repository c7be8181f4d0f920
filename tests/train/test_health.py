from __future__ import annotations

from typing import Any

from spin.train.health import health


def log(steps: int, **changes: Any) -> list[dict[str, Any]]:
    row = {"accuracy": 0.8, "real_mse": 0.1, "real_mse_opponent": 0.1}
    return [{"step": step, **row, **changes} for step in range(1, steps + 1)]


def held_out(step: int, error: float) -> dict[str, Any]:
    return {"step": step, "timestep": 900, "error": error, "error_start": 0.01}


def test_a_healthy_run_is_silent() -> None:
    assert health(log(40), [held_out(0, 0.01), held_out(40, 0.011)]) == ()


def test_saturated_margins_advise_the_next_iteration() -> None:
    (line,) = health(log(20, accuracy=0.99), [])
    assert line.startswith("margins saturated: implicit accuracy 0.99")
    assert "next iteration" in line


def test_a_few_steps_are_noise() -> None:
    assert health(log(19, accuracy=1.0, real_mse=1.0), []) == ()


def test_error_on_real_images_rising_is_pushing_too_hard() -> None:
    (line,) = health(log(20, real_mse=0.12), [])
    assert line.startswith("error on real images 1.20 x the opponent's: pushing too hard")


def test_overshoot_is_told_from_the_newest_step_only() -> None:
    (line,) = health([], [held_out(0, 0.01), held_out(40, 0.02)])
    assert line.startswith("held-out error at t = 900 is 2.00 x its start")
    assert health([], [held_out(40, 0.02), held_out(80, 0.01)]) == ()


def test_supervised_training_has_no_margins_to_judge() -> None:
    assert health(log(40, accuracy=None, real_mse_opponent=None), []) == ()
