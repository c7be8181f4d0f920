from __future__ import annotations

from itertools import chain

import pytest

from spin.core.errors import ConfigError
from spin.train.batches import BatchShape, solve_batch


@pytest.mark.parametrize(
    ("batch_size", "micro_batch_size", "processes", "shape", "accumulation"),
    [
        (32, 8, 2, BatchShape(processes=2, share=16, micro_batch_size=8), 2),  # 32 = 8 x 2 x 2
        (2048, 4, 8, BatchShape(processes=8, share=256, micro_batch_size=4), 64),
        (8, 32, 1, BatchShape(processes=1, share=8, micro_batch_size=8), 1),
        (8, 8, 8, BatchShape(processes=8, share=1, micro_batch_size=1), 1),
        (24, 5, 2, BatchShape(processes=2, share=12, micro_batch_size=5), 3),  # passes of 5, 5 and 2
    ],
)
def test_a_global_batch_is_solved(
    batch_size: int, micro_batch_size: int, processes: int, shape: BatchShape, accumulation: int
) -> None:
    found = solve_batch(batch_size, micro_batch_size=micro_batch_size, processes=processes, setting="train.batch_size")
    assert found == shape
    assert [len(passes) for passes in found.passes(range(batch_size), alike).by_process] == [accumulation] * processes


def alike(item: int) -> int:  # noqa: ARG001  all are of one size
    return 0


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 6, 12, 24])
@pytest.mark.parametrize("micro_batch_size", [1, 5, 8, 100])
def test_the_passes_of_all_ranks_are_the_batch_in_its_order(processes: int, micro_batch_size: int) -> None:
    batch = list(range(24))
    shape = solve_batch(24, micro_batch_size=micro_batch_size, processes=processes, setting="train.batch_size")
    passes = shape.passes(batch, alike)
    assert passes.batch == batch
    assert [passes.surplus(process) for process in range(processes)] == [0] * processes
    assert max(len(micro) for micro in chain(*passes.by_process)) == shape.micro_batch_size <= micro_batch_size


@pytest.mark.parametrize(
    ("batch_size", "processes", "line"),
    [
        (
            10, 4,
            "train.batch_size: a batch of 10 cannot be shared evenly by 4 processes; "
            "set it to 8 or 12, or execution.train_processes to 2",
        ),
        (
            2, 4,
            "train.batch_size: a batch of 2 cannot be shared evenly by 4 processes; "
            "set it to 4, or execution.train_processes to 2",
        ),
        (
            7, 3,
            "train.batch_size: a batch of 7 cannot be shared evenly by 3 processes; "
            "set it to 6 or 9, or execution.train_processes to 1",
        ),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_shared_names_the_numbers_and_a_way_out(
    batch_size: int, processes: int, line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        solve_batch(batch_size, micro_batch_size=8, processes=processes, setting="train.batch_size")
    assert str(caught.value) == line


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 5])
def test_a_pass_holds_items_of_one_size_and_the_shares_stay_what_they_were(
    processes: int, micro_batch_size: int
) -> None:
    batch = list(range(24))
    shape = solve_batch(24, micro_batch_size=micro_batch_size, processes=processes, setting="train.batch_size")

    def size(item: int) -> int:
        return item * item % 7  # 0, 1, 2 and 4, in no order

    passes = shape.passes(iter(batch), size)
    for process, found in enumerate(passes.by_process):
        assert sorted(chain(*found)) == batch[process * shape.share : (process + 1) * shape.share]
        assert all(len({size(item) for item in micro}) == 1 for micro in found)
        assert max(len(micro) for micro in found) <= micro_batch_size
    for index, item in enumerate(passes.batch):
        process, number = passes.place_of(index)
        assert item in passes.by_process[process][number]
    counts = [len(found) for found in passes.by_process]
    assert [passes.surplus(process) + counts[process] for process in range(processes)] == [max(counts)] * processes
