"""The chain behind a real run, whole and broken, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spin.core.layout import RunFolder, RunsRoot
from spin.core.record import read_record, write_record
from spin.core.store import commit, discard, read_manifest
from tests.flows.command_line import Answer, type_in
from tests.flows.conftest import Played

pytestmark = pytest.mark.system


def lineage(run: Played, *words: str) -> Answer:
    return type_in(run.root.parent, "lineage", "tiny", *words)


def chain(run: Played, *words: str) -> dict:
    answer = lineage(run, *words, "--json")
    found = json.loads(answer.out)
    assert answer.code == (0 if found["whole"] else 1), answer.err
    return found


def problems(run: Played, *words: str) -> list[str]:
    return [problem for link in chain(run, *words)["links"].values() for problem in link["problems"]]


def folder_of(run: Played) -> RunFolder:
    return RunsRoot(run.root).run("tiny")


def test_a_figure_leads_to_data_config_code_and_every_opponent(played: Played) -> None:
    found = chain(played, "tables/test.single.scores.csv")
    links, record = found["links"], read_record(folder_of(played))
    assert found["whole"]
    assert [link["kind"] for link in chain(played, "plots/self-loss.svg")["links"].values()][:2] == [
        "figure",
        "training log",
    ]
    assert links["config"]["digest"] == record["config_hash"]
    assert links["config"]["facts"]["code_version"] == record["code_version"]
    assert links["data"]["digest"] == record["data_digest"]
    digests = {stage["name"]: stage["digest"] for stage in record["stages"]}
    assert {name: links[f"model {name}"]["digest"] for name in digests} == digests
    assert links["model iteration-02"]["made_from"][:2] == ["model iteration-01", "samples iteration-02"]
    assert links["plan iteration-02"]["digest"] == record["stages"][3]["samples"]["plan_hash"]
    manifest = read_manifest(folder_of(played).iteration(2).checkpoint(3))
    assert manifest is not None
    assert links["samples iteration-02"]["digest"] == manifest.identity["samples"]


def test_the_tree_tells_each_link_once_and_that_it_is_unbroken(played: Played) -> None:
    answer = lineage(played, "SPIN 2:aesthetic")
    assert answer.code == 0
    assert answer.out.count("checkpoint SPIN 1 ") == 1 + answer.out.count("checkpoint SPIN 1 (above)")
    for words in ("scores SPIN 2, test.single", "judges' weights miniature", "checkpoint SFT", "unbroken:"):
        assert words in answer.out


@pytest.mark.parametrize(
    ("target", "start"),
    [
        ("iteration-01/samples/shard-00001.parquet", "samples iteration-01"),
        ("iteration-01/checkpoints/step-000003/unet/config.json", "model iteration-01"),
        ("sft/train/log.parquet", "log tiny/sft/train/log.parquet"),
        ("run.json", "config"), ("SPIN 1", "model iteration-01"), ("data", "data"),
    ],
)  # fmt: skip
def test_a_file_or_a_stage_is_found_by_its_name(played: Played, target: str, start: str) -> None:
    assert chain(played, target)["start"] == start


def test_a_missing_shard_and_a_changed_byte_are_named(copy: Callable[[], Played]) -> None:
    run = copy()
    stage = folder_of(run).iteration(1)
    discard(stage.samples(1))
    with stage.training_log.open("r+b") as stream:
        stream.seek(40)
        stream.write(b"\xff")
    assert problems(run) == ["tiny/iteration-01/samples/shard-00001.parquet is missing"]
    log = "tiny/iteration-01/train/log.parquet bytes differ from the manifest"
    assert log in problems(run, "--verify")
    answer = lineage(run, "iteration-01")
    assert (answer.code, "1 broken" in answer.out) == (1, True)


def test_a_shard_that_was_drawn_anew_breaks_the_chain_of_the_weights(copy: Callable[[], Played]) -> None:
    """Every file is whole; only the digests tell that the weights saw other images."""
    run = copy()
    first, second = (folder_of(run).iteration(1).samples(shard) for shard in (0, 1))
    manifest = read_manifest(first)
    assert manifest is not None
    bytes_of = second.read_bytes()
    discard(first)
    commit(
        first,
        lambda path: path.write_bytes(bytes_of),
        kind="samples",
        digest=lambda _: "5eed",
        identity=manifest.identity,
    )  # noqa: E501
    assert [line.partition(":")[0] for line in problems(run, "iteration-01")] == ["trained on other samples"]
    assert problems(run, "sft") == []  # what came before is untouched


def test_a_record_that_names_other_weights_or_settings_is_found(copy: Callable[[], Played]) -> None:
    run = copy()
    record = read_record(folder_of(run))
    record["stages"][2]["digest"] = "0" * 64
    record["config"]["train"]["beta"] = 1.0
    write_record(folder_of(run), record)
    found = problems(run, "iteration-02")
    assert any(line.startswith("run.json holds another config than it names") for line in found)
    assert any("which is no model of the run" in line for line in found)


def test_a_base_model_that_is_gone_is_named(copy: Callable[[], Played], tmp_path: Path) -> None:
    run = copy()
    record = read_record(folder_of(run))
    record["base"]["path"] = str(tmp_path / "gone")
    write_record(folder_of(run), record)
    assert problems(run, "base") == [f"{tmp_path / 'gone'} is missing"]


def test_an_unknown_run_is_one_line(played: Played) -> None:
    assert type_in(played.root.parent, "lineage", "other").line.endswith("runs there: tiny")
