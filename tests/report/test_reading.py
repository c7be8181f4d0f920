"""What the report reads of a run, whatever files it stands in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spin.core import store
from spin.core.layout import EvaluationFolder
from spin.core.schema import content_digest, read_table, write_table
from spin.report.pictures import picture_grid
from spin.report.reading import Evaluation, Run, read_run
from tests.report.conftest import PROMPTS, RunBuilder


def evaluations(run: Run) -> list[Evaluation]:
    return [run.data, *(stage.evaluation for stage in run.stages)]


def split(folder: EvaluationFolder, size: int) -> None:
    """Put each part of an evaluation into shards of `size` prompts."""
    for make in (folder.images, folder.scores, folder.denoising):
        if make(0).exists():
            _split(make(0), [make(shard) for shard in range(-(-PROMPTS // size))], size)


def _split(path: Path, shards: list[Path], size: int) -> None:
    table = read_table(path)
    ids = table["prompt_id"].to_pylist()
    order = list(dict.fromkeys(ids))
    store.discard(path)
    for shard, target in enumerate(shards):
        part = table.filter([order.index(name) // size == shard for name in ids])
        store.commit(target, lambda to, part=part: write_table(to, part), kind="part", digest=content_digest)


@pytest.mark.parametrize("size", [3, 8])
def test_an_evaluation_reads_the_same_in_any_number_of_shards(builder: RunBuilder, size: int) -> None:
    builder.build()
    whole = read_run(runs_root=builder.root, run="miniature")
    grid = picture_grid(whole)
    for stage in ("data", *builder.stages):
        split(builder.evaluation(stage), size)
    found = read_run(runs_root=builder.root, run="miniature")
    assert len(list(builder.evaluation("base").denoising(0).parent.glob("*.parquet"))) == -(-PROMPTS // size)
    assert len(found.stages[0].evaluation.denoising) == PROMPTS * 8
    for one, other in zip(evaluations(whole), evaluations(found), strict=True):
        assert {name: sorted(rows) for name, rows in other.scores.items()} == {
            name: sorted(rows) for name, rows in one.scores.items()
        }
        assert replace(other, scores={}) == replace(one, scores={})
    assert picture_grid(found) == grid


def test_a_damaged_shard_is_left_out_and_named(builder: RunBuilder) -> None:
    builder.build()
    folder = builder.evaluation("base")
    split(folder, 8)
    path = folder.denoising(1)
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    run = read_run(runs_root=builder.root, run="miniature")
    assert len(run.stages[0].evaluation.denoising) == 8 * 8
    assert len(run.notices) == 1
    assert run.notices[0].endswith("denoising/shard-00001.parquet: bytes differ from the manifest")


def test_a_model_is_compared_with_the_one_it_started_from_whoever_its_opponent_was(builder):
    builder.build()
    record = builder.record()
    first, second, third = record["stages"][-3:]
    third |= {"start_digest": second["digest"], "opponent_digest": first["digest"]}
    builder.write_record(record)
    run = read_run(runs_root=builder.root, run=builder.name)
    assert run.previous(run.stages[-1]).name == second["name"]
    third |= {"start_digest": None}
    builder.write_record(record)
    run = read_run(runs_root=builder.root, run=builder.name)
    assert run.previous(run.stages[-1]).name == first["name"]
