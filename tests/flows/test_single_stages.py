"""Shard, evaluation, status and plan on their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.record import read_record
from spin.core.store import discard
from tests.flows.conftest import Played

pytestmark = pytest.mark.system


def test_sample_shard_makes_exactly_the_missing_one(copy: Callable[[], Played]) -> None:
    from flows.sample_shard import sample_shard

    run = copy()
    stage = RunsRoot(run.root).run("tiny").iteration(1)
    before = {shard: stage.samples(shard).read_bytes() for shard in range(3)}
    discard(stage.samples(1))
    result = sample_shard("tiny", 1, 1, root=str(run.root))
    assert (result.made, result.images) == ((1,), 8)
    assert {shard: stage.samples(shard).read_bytes() for shard in range(3)} == before


def test_sample_shard_of_a_standing_one_makes_nothing(played: Played) -> None:
    from flows.sample_shard import sample_shard

    assert sample_shard("tiny", 2, 0, root=str(played.root)).images == 0


@pytest.mark.parametrize(
    ("run", "iteration", "shard", "message"),
    [
        ("other", 1, 0, "no run 'other'.*runs there: .*tiny"),
        ("tiny", 7, 0, "no plan for iteration 7.*iteration-01, iteration-02"),
        ("tiny", 1, 3, "no shard 3.*0 to 2"),
    ],
)
def test_unknown_run_iteration_or_shard_names_the_ones_that_exist(
    played: Played, run: str, iteration: int, shard: int, message: str
) -> None:
    from flows.sample_shard import sample_shard

    with pytest.raises(ConfigError, match=message):
        sample_shard(run, iteration, shard, root=str(played.root))


def test_evaluate_reads_what_stands_and_scores_only_new_settings(played: Played) -> None:
    from flows.evaluate import evaluate

    standing = evaluate("tiny", root=str(played.root))
    assert [row.label for row in standing] == ["data", "base", "SFT", "SPIN 1", "SPIN 2"]
    assert sum(row.images_scored for row in standing) == 0
    fresh = evaluate("tiny", settings=["evaluation.guidance_scale=1.5"], root=str(played.root))
    assert sum(row.images_scored for row in fresh) == 40
    assert {"alignment", "aesthetic", "attributes", "frechet_clean", "denoising"} <= set(fresh[1].means)


@pytest.mark.slow
def test_means_are_over_all_shards(played: Played) -> None:
    from flows.evaluate import evaluate

    two, four = (
        evaluate("tiny", settings=list(more), root=str(played.root)) for more in ((), ["evaluation.shard_size=2"])
    )
    assert sum(row.images_scored for row in four) == 40
    assert [row.means for row in four] == [row.means for row in two]


def test_status_expects_every_shard_of_every_evaluation(copy: Callable[[], Played]) -> None:
    from flows.status import expected_artifacts, print_status

    run = copy()
    folder = RunsRoot(run.root).run("tiny")
    found = [path for path in expected_artifacts(folder) if "evaluations" in path.parts]
    folders = {path.parent for path in found if path.name == "set-metrics.parquet"}
    assert len(folders) == 5  # the data, and four models
    assert sorted(found) == sorted(path for evaluation in folders for path in evaluation.rglob("*.parquet"))
    assert (
        sum(path.name == "shard-00001.parquet" for path in found) == 3 + 4 * 4
    )  # parts of the data's shard, and of each model's
    discard(next(path for path in found if path.match("denoising/shard-00001.parquet")))
    assert not print_status(run.root, "tiny", verify=False)


def test_status_finds_damage_only_when_it_verifies(copy: Callable[[], Played]) -> None:
    from flows.status import print_status

    run = copy()
    assert print_status(run.root, "tiny", verify=True)
    shard = RunsRoot(run.root).run("tiny").iteration(1).samples(0)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    assert print_status(run.root, "tiny", verify=False)
    assert not print_status(run.root, "tiny", verify=True)
    shard.unlink()
    assert not print_status(run.root, "tiny", verify=False)


def test_plan_counts_what_the_run_will_do(played: Played) -> None:
    from flows.forecast import forecast

    found = forecast(played.config)
    counts = {line.task.name: line.task.count for line in found.lines}
    assert found.rows.train == 24
    assert (counts["sft train"], counts["iteration-01 sample"], counts["iteration-02 train"]) == (12, 24, 24)
    assert all(line.seconds > 0 for line in found.lines if line.task.count)


def test_plan_counted_what_the_run_then_did(played: Played) -> None:
    from flows.forecast_rows import evaluated_pictures, rows_of
    from flows.requests import Requests
    from spin.core.outline import outline

    rows = rows_of(Requests(played.config, "cpu"))
    tasks = outline(played.config, rows=rows, pictures=evaluated_pictures(played.config, rows))
    record = read_record(RunsRoot(played.root).run("tiny"))
    assert list(dict.fromkeys(task.stage for task in tasks))[1:-1] == [stage["name"] for stage in record["stages"]]
    spent = {(row["stage"], row["task"]): row["images"] for row in record["stage_seconds"]}
    planned = {(task.stage, task.kind): task.count for task in tasks if task.count}
    for stage in record["stages"]:
        training = stage["training"]
        if training is not None:
            assert planned[stage["name"], "train"] == training["pairs"]
        if stage.get("samples") is not None:
            assert planned[stage["name"], "sample"] == stage["samples"]["images"] == spent[stage["name"], "sample"]
        assert planned[stage["name"], "evaluate"] == spent[stage["name"], "evaluate"]
    assert planned["data", "prepare"] == spent["data", "prepare"]


def test_doctor_finds_this_machine_well(played: Played) -> None:
    from flows.doctor import examine

    assert [finding.name for finding in examine(played.root) if not finding.good] == []
