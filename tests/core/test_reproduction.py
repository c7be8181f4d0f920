"""Where a run and its rerun first differ; that real runs come out equal is tested in tests/flows."""

from __future__ import annotations

import math

from spin.core.reproduction import Outcome, first_beyond

PARTS = (
    Outcome("data", "prompts", 0.0), Outcome("sft", "checkpoint", 1e-6, "m.safetensors w"),
    Outcome("iteration-01", "samples", 3e-5, "shard-00000.parquet latent"), Outcome("report", "metrics", math.inf),
)  # fmt: skip


def test_the_first_part_beyond_the_tolerance_is_found() -> None:
    assert first_beyond(PARTS[:1], 0.0) is None
    assert first_beyond(PARTS, 0.0) == PARTS[1]
    assert first_beyond(PARTS, 1e-6) == PARTS[2]
    assert first_beyond(PARTS, 1.0) == PARTS[3]  # another value is beyond every tolerance
