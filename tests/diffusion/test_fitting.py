"""Sizes of a pass are really trained, and memory is really measured."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from spin.core.counted import Trained
from spin.core.micro_batch import Found, Tried
from spin.diffusion.checkpoint import load_denoiser
from spin.diffusion.fitting import SHARE, _limit, largest_micro_batch
from spin.miniature.packaged import packaged_pipeline_path

PAIR = Trained(
    images=1, opponent="own", timesteps=1, lora_rank=None, lora_layers="attention", recompute=False,
    dtype="float32",
)  # fmt: skip


def probe(trained: Trained = PAIR, **changes: Any) -> tuple[Found, list[Tried]]:
    heard: list[Tried] = []
    asked: dict[str, Any] = {
        "most": 4, "optimizer": "adamw", "averaged": True, "device": "cpu", "threads": 1, "seconds": 600.0,
        "told": heard.append,
    }  # fmt: skip
    return largest_micro_batch(packaged_pipeline_path(), trained, **{**asked, **changes}), heard


@pytest.mark.parametrize(
    "change", [{}, {"lora_rank": 2, "opponent": "shared", "timesteps": 2}, {"opponent": "stored"}], ids=str
)
def test_sizes_up_to_the_batch_are_tried_and_told(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opponents: list[str] = []

    def load(base: Path, **named: Any) -> Any:
        opponents.append(base.name)
        return load_denoiser(base, **named)

    monkeypatch.setattr("spin.diffusion.fitting.load_denoiser", load)
    found, heard = probe(replace(PAIR, **change))
    assert len(opponents) == (0 if change else 3)  # a stored or shared one is no network of its own
    assert [one.size for one in heard] == [1, 2, 4]
    assert heard == list(found.tried)
    assert (found.largest, found.complete) == (4, True)
    assert all(one.rate > 0 and one.seconds > 0 for one in heard)
    assert all(one.peak_bytes is not None and one.peak_bytes >= one.base_bytes > 2**20 for one in heard)


@pytest.mark.system
def test_a_bound_of_memory_is_kept() -> None:
    free, _ = probe(most=1)
    (one,) = free.tried
    assert one.peak_bytes is not None
    limit = one.peak_bytes + 2**25
    found, heard = probe(most=2**20, limit_bytes=limit)
    assert 0 < found.largest < 2**12
    # A CPU refuses nothing: the last size may take what its allocator keeps beside it.
    assert max(one.peak_bytes or 0 for one in heard) <= 1.05 * limit


def test_of_what_is_free_a_tenth_is_left() -> None:
    machine, own = psutil.virtual_memory(), psutil.Process().memory_info().rss
    assert own < _limit("cpu") <= own + SHARE * machine.total


def test_an_error_that_is_no_want_of_memory_is_raised() -> None:
    with pytest.raises(KeyError, match="float8"):
        probe(replace(PAIR, dtype="float8"))
