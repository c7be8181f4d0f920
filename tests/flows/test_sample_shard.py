"""One shard again from the command line, on a runs root that no server serves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spin.core.environment import code_version
from spin.core.layout import RunsRoot
from spin.core.record import read_record, write_record
from spin.core.schema import content_digest, read_table, read_tensors, tensor_column, tensor_field, write_table
from spin.core.store import commit, discard, hash_file, read_manifest
from tests.flows.command_line import Answer, type_in
from tests.flows.conftest import Played

pytestmark = pytest.mark.system


def sample_shard(run: Played, *words: str) -> Answer:
    return type_in(run.root.parent, "sample-shard", "tiny", *words)


def test_exactly_the_missing_shard_is_made(copy: Callable[[], Played]) -> None:
    run = copy()
    stage = RunsRoot(run.root).run("tiny").iteration(2)
    paths = [stage.samples(shard) for shard in range(3)]
    before = [(hash_file(path), path.stat().st_mtime_ns) for path in paths]
    discard(paths[1])
    answer = sample_shard(run, "2", "1")
    assert (answer.code, answer.out, answer.err) == (0, "8 images sampled\n", "")
    after = [(hash_file(path), path.stat().st_mtime_ns) for path in paths]
    assert (after[0], after[1][0], after[2]) == (before[0], before[1][0], before[2])
    assert after[1] != before[1]
    assert sample_shard(run, "2", "1").out == "0 images sampled\n"


def test_verify_draws_images_again_and_compares(copy: Callable[[], Played]) -> None:
    """Numbers that a fitting manifest covers up are found by drawing alone."""
    run = copy()
    answer = sample_shard(run, "1", "0", "--verify", "3")
    assert (answer.code, answer.out) == (0, "0 images sampled\n0 of 3 images differ; largest 0\n")
    path = RunsRoot(run.root).run("tiny").iteration(1).samples(0)
    manifest, table = read_manifest(path), read_table(path)
    assert manifest is not None
    latents = read_tensors(table, "latent") + 0.5
    field = tensor_field("latent", latents.shape[1:], "float32")
    table = table.set_column(table.schema.get_field_index("latent"), field, tensor_column(latents))
    discard(path)
    commit(
        path, lambda target: write_table(target, table), kind="samples", digest=content_digest,
        identity=manifest.identity, environment=lambda: manifest.environment,
    )  # fmt: skip
    answer = sample_shard(run, "1", "0", "--verify", "3")
    assert (answer.code, answer.out) == (1, "0 images sampled\n3 of 3 images differ; largest 0.5\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("7", "0"), "run 'tiny' has no plan for iteration 7; planned: iteration-01, iteration-02"),
        (("1", "3"), "iteration 1 has no shard 3; name one from 0 to 2"),
    ],
)
def test_an_unknown_iteration_or_shard_names_those_that_are_there(
    played: Played, words: tuple[str, str], line: str
) -> None:
    assert sample_shard(played, *words).line == line


def test_an_unknown_run_names_those_that_are_there(played: Played) -> None:
    line = type_in(played.root.parent, "sample-shard", "other", "1", "0").line
    assert line == f"no run 'other' in {played.root}; runs there: tiny"


def test_a_shard_is_not_made_by_other_code_than_the_others(copy: Callable[[], Played]) -> None:
    run = copy()
    folder = RunsRoot(run.root).run("tiny")
    write_record(folder, read_record(folder) | {"code_version": "0.0.1+0123456789ab"})
    answer = sample_shard(run, "2", "1")
    assert answer.code == 2
    assert "made by other code" in answer.line
    assert f"code_version: 0.0.1+0123456789ab -> {code_version()}; install that code here" in answer.line
