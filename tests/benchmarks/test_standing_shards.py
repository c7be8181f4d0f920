"""What a resume of a finished iteration hashes, counted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.standing_shards import StandingIteration, standing_iteration
from spin.core import stamps

SHARDS = 3


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandingIteration:
    """An iteration of which every file is worth a stamp, and was not touched lately."""
    monkeypatch.setattr(stamps, "_WORTH_BYTES", 0)
    monkeypatch.setattr(stamps, "_SETTLED_NS", 50_000_000)
    found = standing_iteration(tmp_path, SHARDS, shard_size=8, latent=(4, 8, 8), checkpoint_bytes=1 << 20)
    time.sleep(0.1)
    return found


def test_the_second_resume_of_a_finished_iteration_hashes_only_the_header_that_it_reads(
    made: StandingIteration, hashed: list[str]
) -> None:
    made.forget()
    assert made.resume() == (0, True)
    assert {"shard-00000.parquet", "shard-00002.parquet", "plan.parquet", "step-000050"} <= set(hashed)
    hashed.clear()
    assert made.resume() == (0, True)
    assert set(hashed) == {"plan.json"}


def test_a_resume_finds_the_shard_that_was_damaged_since_and_hashes_no_other(
    made: StandingIteration, hashed: list[str]
) -> None:
    made.resume()
    path = made.stage.samples(1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    hashed.clear()
    assert made.resume() == (1, False)
    assert set(hashed) == {"plan.json", "shard-00001.parquet"}


def test_what_is_forgotten_is_hashed_again(made: StandingIteration, hashed: list[str]) -> None:
    made.resume()
    made.forget()
    hashed.clear()
    assert made.resume() == (0, True)
    assert sum(name.startswith("shard-") for name in hashed) == SHARDS
