from __future__ import annotations

import pytest

from spin.train.schedule import learning_rate


def rates(steps: int, *, warmup_steps: int, lr_schedule: str = "constant") -> list[float]:
    return [
        learning_rate(step, lr=1.0, warmup_steps=warmup_steps, steps=steps, lr_schedule=lr_schedule)
        for step in range(1, steps + 1)
    ]


def test_the_rate_warms_up_then_stays() -> None:
    assert rates(6, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_rate_warms_up_then_falls_to_its_last_positive_value() -> None:
    assert rates(6, warmup_steps=2, lr_schedule="linear") == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_no_warm_up_starts_at_the_full_rate() -> None:
    assert rates(2, warmup_steps=0) == [1.0, 1.0]


@pytest.mark.parametrize("lr_schedule", ["constant", "linear"])
def test_a_warm_up_longer_than_the_run_just_ends(lr_schedule: str) -> None:
    found = rates(50, warmup_steps=200, lr_schedule=lr_schedule)  # the paper's iteration 1
    assert found[-1] == 50 / 200
    assert found == sorted(found)


def test_a_warm_up_as_long_as_the_run_ends_at_the_full_rate() -> None:
    assert rates(200, warmup_steps=200, lr_schedule="linear")[-1] == 1.0
