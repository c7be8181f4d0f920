"""From the config to exact values."""

from __future__ import annotations

import pytest

from flows.requests import Requests
from spin.core.config import load_config


@pytest.mark.parametrize(
    ("settings", "device", "batch_size", "processes"),
    [
        ((), "cuda", 33, 3),
        ((), "cuda", 32, 2),  # of three GPUs two can share it evenly
        ((), "cuda", 7, 1),
        ((), "cpu", 32, 1),
        (("execution.train_processes=4",), "cuda", 32, 4),
        (("execution.train_processes=2",), "cpu", 32, 2),
    ],
)
def test_a_training_takes_as_many_gpus_as_can_share_its_batch(
    settings: tuple[str, ...], device: str, batch_size: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.requests.visible_gpus", lambda: ("a", "b", "c"))
    assert Requests(load_config("miniature", overrides=settings), device).processes(batch_size) == processes
