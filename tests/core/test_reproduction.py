"""Where a run and its rerun first differ; that real runs come out equal is tested in tests/flows."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from spin.core.layout import RealCache, RunFolder, RunsRoot
from spin.core.record import _FIELDS, write_record
from spin.core.reproduction import Outcome, compare_runs, first_beyond
from spin.core.schema import content_digest, write_table
from spin.core.store import commit

PARTS = (
    Outcome("data", "prompts", 0.0), Outcome("sft", "checkpoint", 1e-6, "m.safetensors w"),
    Outcome("iteration-01", "samples", 3e-5, "shard-00000.parquet latent"), Outcome("report", "metrics", math.inf),
)  # fmt: skip


def test_the_first_part_beyond_the_tolerance_is_found() -> None:
    assert first_beyond(PARTS[:1], 0.0) is None
    assert first_beyond(PARTS, 0.0) == PARTS[1]
    assert first_beyond(PARTS, 1e-6) == PARTS[2]
    assert first_beyond(PARTS, 1.0) == PARTS[3]  # another value is beyond every tolerance


def prepared(root: Path, *, losers: str, error: float = 0.0) -> RunFolder:
    """A run with its data; the losers' one number is off by `error`."""
    run = RunsRoot(root).run("run")
    run.path.mkdir(parents=True)
    record = {**dict.fromkeys(_FIELDS), "config": {"train": {"losers": losers}}, "real": "cache", "stages": []}
    write_record(run, record)
    cache = RealCache(root / "cache")
    for path in (run.prompts, cache.latents, cache.text, cache.held_out_images, cache.losers):
        table = pa.table({"value": [error if path == cache.losers else 0.0]})
        commit(path, lambda draft, table=table: write_table(draft, table), kind=path.stem, digest=content_digest)
    return run


@pytest.mark.parametrize(
    ("losers", "parts", "beyond"),
    [
        ("labelled", ["prompts", "real latents", "labelled losers"], True),
        ("generated", ["prompts", "real latents"], False),
    ],
)
def test_labelled_losers_are_compared_where_they_are_trained_on(
    tmp_path: Path, losers: str, parts: list[str], *, beyond: bool
) -> None:
    old = prepared(tmp_path / "old", losers=losers)
    new = prepared(tmp_path / "new", losers=losers, error=0.25)
    found = list(islice(compare_runs(old, new), len(parts)))
    assert [outcome.part for outcome in found] == parts
    expected = Outcome("data", "labelled losers", 0.25, "losers.parquet value")
    assert first_beyond(found, 0.1) == (expected if beyond else None)
