"""Ratios by hand, every way in every round, and what is written is what is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.measuring import (
    Check,
    Measured,
    Timed,
    Way,
    interleave,
    matmul,
    ratio,
    read_measured,
    write_measured,
)

MACHINE = {"device": "a CPU", "cores": 2, "versions": {"torch": "2.13"}}


def measured(**changes: object) -> Measured:
    timed = [
        Timed("slow", 1, 4e12, [8.0, 10.0, 12.0], dtype="bfloat16"),
        Timed("ours", 4, 4e12, [8.0, 8.0, 8.0], dtype="bfloat16"),
        Timed("matmul bfloat16", 4.0, 1e12, [1.0, 1.0, 1.0], dtype="bfloat16"),
    ]
    found = Measured(
        "sampling", "cpu", "command", "image", timed, ["slow"], machine=MACHINE, load=[1.0, 2.1], stolen=[0.0, 0.0]
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def test_every_way_runs_once_to_warm_up_and_then_in_turn() -> None:
    calls: list[str] = []
    ways = [Way("a", lambda: calls.append("a"), units=2), Way("b", lambda: calls.append("b"))]
    timed, load, stolen = interleave(ways, rounds=3)
    assert "".join(calls) == "ab" * 4
    assert [(each.name, each.units, len(each.seconds)) for each in timed] == [("a", 2, 3), ("b", 1.0, 3)]
    assert len(load) == len(stolen) == 3
    assert all(0.0 <= share <= 1.0 for share in stolen)


def test_a_ratio_is_that_of_the_medians_for_one_unit() -> None:
    """10 s an image against 8 s for four of them: 10 / 2."""
    found = measured().ratio("slow", "ours")
    assert found.value == 5.0
    assert (found.low, found.high) == (4.0, 6.0)


def test_equal_rounds_leave_no_doubt() -> None:
    found = ratio(np.full(5, 3.0), np.full(5, 2.0))
    assert (found.value, found.low, found.high) == (1.5, 1.5, 1.5)


def test_a_share_is_of_the_products_in_the_same_precision() -> None:
    """4 TFLOP in 2 s is 2 TFLOP/s, of the 4 that products reach."""
    found = measured()
    assert found.of("ours").teraflops == pytest.approx(2.0)
    assert found.share(found.of("ours")) == pytest.approx(0.5)
    assert found.share(replace(found.of("ours"), dtype="float32")) is None


@pytest.mark.parametrize(("load", "noisy"), [(2.1, False), (2.3, True)])
def test_other_work_is_seen_by_the_load(load: float, noisy: bool) -> None:
    assert measured(load=[1.0, load]).noisy is noisy


def test_other_machines_of_the_host_are_seen_by_what_they_take() -> None:
    assert not measured(stolen=[0.0, 0.02]).noisy
    assert measured(stolen=[0.0, 0.06]).noisy


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    found = measured(checks=[Check("latents", 1e-6, 1e-4)], facts={"batch": 8})
    write_measured(tmp_path / "cpu" / "sampling.json", found)
    assert read_measured(tmp_path / "cpu" / "sampling.json") == found


def test_a_product_counts_its_operations() -> None:
    way = matmul("cpu", torch.float32, side=100)
    products = way.units * way.flops / (2 * 100**3)
    assert products == pytest.approx(round(products))
