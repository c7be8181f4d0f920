"""Which shards a child flow run carries, and how it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.batches import SampleBatch, groups, span
from flows.joining import Call
from spin.core.layout import StageFolder
from spin.core.planning import read_plan
from spin.core.store import commit, discard


def test_groups_are_the_same_whatever_is_missing() -> None:
    assert groups(range(5), 2) == [("0", (0, 1)), ("1", (2, 3)), ("2", (4,))]
    assert groups([1, 4], 2) == [("0", (1,)), ("2", (4,))]
    assert groups([], 2) == []


def test_without_a_size_each_worker_has_one_group_and_the_first_shards_come_first() -> None:
    """So a worker loads a model once, and a training that waits for the first shards has them early."""
    assert groups(range(7), None, lambda: 3) == [("0 of 3", (0, 3, 6)), ("1 of 3", (1, 4)), ("2 of 3", (2, 5))]
    assert groups([1, 4, 6], None, lambda: 3) == [("1 of 3", (1, 4)), ("0 of 3", (6,))]
    assert groups(range(2), None, lambda: 3) == [("0 of 3", (0,)), ("1 of 3", (1,))]
    assert groups(range(3), None) == [("0 of 1", (0, 1, 2))]


def test_workers_are_counted_only_where_they_decide() -> None:
    def count() -> int:
        raise AssertionError("asked")

    assert groups([], None, count) == []
    assert groups([3], 2, count) == [("1", (3,))]


@pytest.mark.parametrize(
    ("shards", "name"),
    [
        ([7], "shard 07/32"),
        ([0, 1, 2], "shards 00-02/32"),
        ([0, 2, 3], "shards 00,02-03/32"),
        ([1, 3, 5, 7], "shards 01,03,05,07/32"),
        ([1, 3, 5, 7, 9], "shards 01-09/32, 5 of them"),
    ],
)
def test_names_are_short(shards: list[int], name: str) -> None:
    assert span(shards, 32) == name


def test_a_call_asks_for_what_is_missing_by_then(stage: StageFolder, tmp_path: Path) -> None:
    batch = SampleBatch("mine", 1, StageFolder(tmp_path), read_plan(stage), {"made": "from this"}, (0, 1, 2))
    assert batch.missing() == ["shard 0", "shard 1", "shard 2"]
    for shard in (0, 2):
        commit(batch.stage.samples(shard), write, kind="samples", identity={"made": "from this"})
    assert batch.call() == Call("sample k=1 shard 01/01", {"iteration": 1, "shards": [1]}, ("sample-shard mine 1 1",))
    commit(batch.stage.samples(1), write, kind="samples", identity={"made": "from something else"})
    assert batch.missing() == ["shard 1"]
    discard(batch.stage.samples(1))
    commit(batch.stage.samples(1), write, kind="samples", identity={"made": "from this"})
    assert batch.missing() == []


def write(path: Path) -> None:
    path.write_bytes(b"PAR1 and so on PAR1")
