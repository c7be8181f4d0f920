from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from itertools import islice

import numpy as np
import pytest

from spin.core.plan import (
    Plan,
    epoch_order,
    identity_hash,
    image_seed,
    padded_batches,
    plan_rows,
    seed_of,
    shard_count,
    visits,
)

PLAN = Plan(
    stage="iteration-01", images=100, shards=4, shard_size=32, batch_size=8, config_hash="c", code_version="1",
    parent_digest="p", rows_digest="r",
)  # fmt: skip


def rows_of(
    reads: int, *, rows: int = 10, draws: int = 1, shard_size: int = 4, stage: str = "iteration-01", seed: int = 0
):
    return list(plan_rows(rows=rows, reads=reads, draws=draws, shard_size=shard_size, run_seed=seed, stage=stage))


def read(count: int, *, rows: int = 10, draws: int = 1, seed: int = 0, stage: str = "iteration-01"):
    return list(visits(rows=rows, count=count, draws=draws, run_seed=seed, stage=stage))


@pytest.mark.parametrize("draws", [1, 3])
def test_a_plan_is_a_prefix_of_a_longer_one(draws: int) -> None:
    longest = rows_of(100, draws=draws)
    for reads in range(0, 40):
        assert rows_of(reads, draws=draws) == longest[:reads]


@pytest.mark.parametrize(("reads", "draws", "images"), [(7, 1, 7), (10, 1, 10), (25, 1, 10), (25, 2, 20), (25, 3, 25)])
def test_only_the_images_that_training_reads_are_planned(reads: int, draws: int, images: int) -> None:
    planned = {(row.row, row.draw) for row in rows_of(reads, draws=draws)}
    assert len(planned) == len(rows_of(reads, draws=draws)) == images
    assert planned == {(visit.row, visit.draw) for visit in read(reads, draws=draws)}


def test_planned_rows_stand_in_the_order_of_their_first_use() -> None:
    first_use = dict.fromkeys((visit.row, visit.draw) for visit in read(60, draws=2))
    assert [(row.row, row.draw) for row in rows_of(60, draws=2)] == list(first_use)
    assert [row.position for row in rows_of(60, draws=2)] == list(range(20))


@pytest.mark.parametrize("shard_size", [1, 3, 4, 64])
@pytest.mark.parametrize(("draws", "reads"), [(1, 7), (1, 60), (3, 25), (3, 60)])
@pytest.mark.parametrize("planned", ["read", "all"])
def test_the_first_steps_read_the_first_shards_and_no_others(
    draws: int, reads: int, shard_size: int, planned: str
) -> None:
    """Whether the plan is of what training reads, or of all rows."""
    rows = rows_of(reads if planned == "read" else 10 * draws, draws=draws, shard_size=shard_size)
    plan = replace(PLAN, images=len(rows), shards=shard_count(len(rows), shard_size), shard_size=shard_size)
    shard_of = {(row.row, row.draw): row.shard for row in rows}
    for count in range(1, reads + 1):
        needed = {shard_of[visit.row, visit.draw] for visit in read(count, draws=draws)}
        assert plan.shards_read(count) == max(needed) + 1
        assert needed == set(range(max(needed) + 1))
    assert plan.shards_read(0) == 0


def test_every_epoch_passes_all_rows_once_in_an_order_of_its_own() -> None:
    epochs = [read(50)[start : start + 10] for start in range(0, 50, 10)]
    for number, epoch in enumerate(epochs):
        assert sorted(visit.row for visit in epoch) == list(range(10))
        assert {visit.visit for visit in epoch} == {number}
    assert len({tuple(visit.row for visit in epoch) for epoch in epochs}) == 5


def test_draws_take_turns_over_the_epochs() -> None:
    assert [visit.draw for visit in islice(read(60, draws=3), 0, None, 10)] == [0, 1, 2, 0, 1, 2]


def test_the_order_is_a_function_of_seed_stage_and_epoch() -> None:
    orders = [
        epoch_order(100, run_seed=seed, stage=stage, epoch=epoch).tolist()
        for seed in (0, 1) for stage in ("iteration-01", "iteration-02") for epoch in (0, 1)
    ]  # fmt: skip
    assert len(set(map(tuple, orders))) == 8
    assert np.array_equal(orders[0], epoch_order(100, run_seed=0, stage="iteration-01", epoch=0))


def test_rows_and_seeds_do_not_depend_on_the_split_into_shards() -> None:
    def known(size: int):
        return [(row.position, row.row, row.draw) for row in rows_of(60, draws=2, shard_size=size)]

    assert known(1) == known(3) == known(20) == known(1000)


@pytest.mark.parametrize("shard_size", [1, 3, 20, 1000])
def test_shards_cover_the_plan_exactly(shard_size: int) -> None:
    rows = rows_of(60, draws=2, shard_size=shard_size)
    plan = replace(PLAN, images=20, shard_size=shard_size, shards=shard_count(20, shard_size))
    found = [position for shard in range(plan.shards) for position in plan.shard_range(shard)]
    assert found == [row.position for row in rows]
    assert all(row.position in plan.shard_range(row.shard) for row in rows)
    assert not plan.shard_range(plan.shards)


def test_a_seed_is_a_function_of_identity_and_one_known_number() -> None:
    # int(sha256("image\x1f0\x1fiteration-01\x1fabc\x1f0")[:16], 16) & (2**63 - 1)
    assert image_seed(0, "iteration-01", "abc", 0) == 4870990727633326275
    changed = [(1, "iteration-01", "abc", 0), (0, "iteration-02", "abc", 0), (0, "iteration-01", "abd", 0)]
    assert (
        len({image_seed(*parts) for parts in [*changed, (0, "iteration-01", "abc", 1), (0, "iteration-01", "abc", 0)]})
        == 5
    )


def test_seeds_fit_into_63_bits_and_do_not_collide() -> None:
    seeds = [image_seed(0, "iteration-01", str(number), draw) for number in range(2000) for draw in range(2)]
    assert max(Counter(seeds).values()) == 1
    assert min(seeds) >= 0
    assert 2**62 < max(seeds) < 2**63


def test_parts_of_an_identity_do_not_run_into_each_other() -> None:
    assert identity_hash("ab", "c") != identity_hash("a", "bc")
    assert seed_of("a", 1, 2) != seed_of("a", 12)
    assert identity_hash(1) == identity_hash("1")  # text counts, not type: the same on any machine


def test_the_plan_hash_changes_with_each_field() -> None:
    changed = {
        field.name: replace(PLAN, **{field.name: getattr(PLAN, field.name) + ("x" if field.type == "str" else 1)})
        for field in fields(Plan)
    }
    hashes = {name: plan.plan_hash for name, plan in changed.items()}
    assert len({PLAN.plan_hash, *hashes.values()}) == len(fields(Plan)) + 1
    assert replace(PLAN).plan_hash == PLAN.plan_hash


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 17])
def test_batches_have_one_shape_and_lose_nothing(count: int) -> None:
    batches = list(padded_batches(range(count), 8))
    assert all(len(batch) == 8 for batch in batches)
    assert [position for batch in batches for position in batch][:count] == list(range(count))
    assert all(position == count - 1 for batch in batches[-1:] for position in batch[count - 8 * (len(batches) - 1) :])
    assert len(batches) == shard_count(count, 8)
