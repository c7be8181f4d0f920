"""A finished run is what its record says: rerun, or a sample made again; what was changed is named first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from spin.core.errors import ArtifactError
from spin.core.layout import EvaluationFolder, RunFolder, RunsRoot
from spin.core.record import read_record, write_record
from spin.core.reproduction import Outcome, compare_runs, first_beyond
from spin.core.schema import content_digest, read_table, read_tensors, tensor_column, write_table
from spin.core.store import commit, discard, hash_file, read_manifest
from tests.flows.command_line import Answer, type_in
from tests.flows.conftest import Played

pytestmark = pytest.mark.system


def reproduce(run: Played, *words: str) -> Answer:
    return type_in(run.root.parent, "reproduce", "tiny", *words)


def folder_of(run: Played) -> RunFolder:
    return RunsRoot(run.root).run("tiny")


def evaluation_of(run: Played, stage: int) -> EvaluationFolder:
    return EvaluationFolder(run.root / read_record(folder_of(run))["stages"][stage]["evaluation"])


def shift(artifact: Path, column: str, by: float) -> None:
    """Move the last row of a column, under a manifest that fits the file."""
    table, manifest = read_table(artifact), read_manifest(artifact)
    assert manifest is not None
    index = table.schema.get_field_index(column)
    field = table.schema.field(column)
    if field.metadata:
        values = read_tensors(table, column).copy()
        values[-1].flat[0] += by
        moved = tensor_column(values)
    else:
        values = table[column].to_pylist()
        moved = pa.array([*values[:-1], values[-1] + by], field.type)
    table = table.set_column(index, field, moved)
    discard(artifact)
    commit(
        artifact, lambda path: write_table(path, table), kind=manifest.kind, digest=content_digest,
        identity=manifest.identity, environment=lambda: manifest.environment,
    )  # fmt: skip


def compared(played: Played, changed: Played) -> list[Outcome]:
    return list(compare_runs(folder_of(played), folder_of(changed)))


def test_a_run_equals_itself_in_every_part(played: Played, copy: Callable[[], Played]) -> None:
    outcomes = compared(played, copy())
    assert [outcome for outcome in outcomes if outcome.apart] == []
    assert [(o.stage, o.part) for o in outcomes][:2] == [("data", "prompts"), ("data", "real latents")]
    of_the_last = [outcome.part for outcome in outcomes if outcome.stage == "iteration-02"]
    assert of_the_last == [
        "plan", "samples", "training log", "held-out log", "checkpoint", "pictures test.single", "scores test.single",
    ]  # fmt: skip
    assert (outcomes[-1].stage, outcomes[-1].part) == ("report", "metrics")


CHANGES: dict[str, tuple[Callable[[Played], Path], str, tuple[str, str]]] = {
    "plan": (lambda run: folder_of(run).iteration(2).plan_rows, "seed", ("iteration-02", "plan")),
    "samples": (lambda run: folder_of(run).iteration(1).samples(2), "latent", ("iteration-01", "samples")),
    "log": (lambda run: folder_of(run).sft.training_log, "loss", ("sft", "training log")),
    "held-out": (lambda run: folder_of(run).iteration(1).held_out_log, "error", ("iteration-01", "held-out log")),
    "latents": (
        lambda run: run.root / read_record(folder_of(run))["real"] / "real.parquet", "latent_mean",
        ("data", "real latents"),
    ),
    "scores": (lambda run: evaluation_of(run, 2).scores(1), "score", ("iteration-01", "scores test.single")),
    "whole set": (lambda run: evaluation_of(run, 0).set_metrics, "value", ("base", "scores test.single")),
    "denoising": (lambda run: evaluation_of(run, 3).denoising(0), "error", ("iteration-02", "scores test.single")),
    "metrics": (lambda run: folder_of(run).metrics, "value", ("report", "metrics")),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_the_part_that_differs_is_found_and_no_other(played: Played, copy: Callable[[], Played], what: str) -> None:
    run = copy()
    find, column, place = CHANGES[what]
    path = find(run)
    shift(path, column, 1 if column == "seed" else 0.25)
    (found,) = [outcome for outcome in compared(played, run) if outcome.apart]
    assert (found.stage, found.part) == place
    assert found.where == f"{path.name} {column}"
    if column == "seed":
        assert first_beyond([found], 1e9) == found  # another seed is another image, however near the number
    else:
        assert found.apart == pytest.approx(0.25, rel=1e-5)
        assert first_beyond([found], 0.26) is None


def test_pictures_and_weights_are_compared_too(played: Played, copy: Callable[[], Played]) -> None:
    run = copy()
    images = evaluation_of(run, 1).images(0)
    table, manifest = read_table(images), read_manifest(images)
    assert manifest is not None
    pictures = table["image"].to_pylist()
    index = table.schema.get_field_index("image")
    turned = pa.array([*pictures[1:], pictures[0]], table["image"].type)
    table = table.set_column(index, table.schema.field("image"), turned)
    discard(images)
    commit(images, lambda path: write_table(path, table), kind="evaluation-images", digest=content_digest)
    record = read_record(folder_of(run))
    record["stages"][3]["checkpoint"] = record["stages"][2]["checkpoint"]
    write_record(folder_of(run), record)
    found = {(o.stage, o.part): o for o in compared(played, run) if o.apart}
    assert list(found) == [("sft", "pictures test.single"), ("iteration-02", "checkpoint")]
    assert 0 < found["sft", "pictures test.single"].apart <= 1
    assert 0 < found["iteration-02", "checkpoint"].apart < 1
    assert found["iteration-02", "checkpoint"].where.startswith("step-000003 unet ")


def test_another_class_of_bits_is_told_where_something_differs(played: Played, copy: Callable[[], Played]) -> None:
    run = copy()
    path = folder_of(run).iteration(1).samples(0)
    shift(path, "latent", 0.5)
    manifest, table = read_manifest(path), read_table(path)
    assert manifest is not None
    discard(path)
    commit(
        path, lambda target: write_table(target, table), kind="samples", digest=content_digest,
        environment=lambda: {**manifest.environment, "torch": "1.0"},
    )  # fmt: skip
    (found,) = [outcome for outcome in compared(played, run) if outcome.apart]
    (note,) = found.notes
    assert note.startswith("torch: ")
    assert note.endswith(" -> 1.0")


def test_what_is_missing_is_named(played: Played, copy: Callable[[], Played]) -> None:
    run = copy()
    discard(folder_of(run).sft.training_log)
    (found,) = [outcome for outcome in compared(played, run) if outcome.apart]
    assert (found.stage, found.where) == ("sft", "log.parquet was not made")
    with pytest.raises(ArtifactError, match="is missing in the run that is to be reproduced"):
        list(compare_runs(folder_of(run), folder_of(played)))


@pytest.fixture(scope="module")
def own(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """A copy that tests of this module make parts of again, and leave as it is."""
    root = tmp_path_factory.mktemp("reproduced") / "runs"
    shutil.copytree(played.root, root, ignore=shutil.ignore_patterns(".prefect"))
    return Played(root, played.config, played.totals)


def test_a_sample_of_every_stage_comes_again_bit_for_bit_and_the_run_stays(own: Played) -> None:
    before = {path: hash_file(path) for path in own.root.rglob("*.parquet")}
    answer = reproduce(own, "--sample", "2")
    assert answer.code == 0, answer.err
    for words in ("samples, 2 images", "training log, 3 steps", "scores test.single, of 2", "equal bit for bit"):
        assert words in answer.out
    assert {path: hash_file(path) for path in own.root.rglob("*.parquet")} == before


def test_a_sample_finds_an_image_that_its_opponent_did_not_draw(copy: Callable[[], Played]) -> None:
    run = copy()
    for shard in range(3):
        path = folder_of(run).iteration(2).samples(shard)
        for _ in range(2):
            shift(path, "latent", 0.25)
    answer = reproduce(run, "--sample", "24", "--stage", "iteration-02")
    assert answer.code == 1
    assert "differs first at iteration-02, samples, 24 images: 0.5" in answer.out
    assert "iteration-01" not in answer.out


def test_a_stage_of_which_a_sample_compares_nothing_is_refused(copy: Callable[[], Played]) -> None:
    """The data is judged by its held-out rows, and a run may be asked prompts from elsewhere only."""
    run = copy()
    record = read_record(folder_of(run))
    record["config"]["evaluation"]["benchmarks"] = ["paper_figures"]
    write_record(folder_of(run), record)
    answer = reproduce(run, "--sample", "1", "--stage", "data")
    assert answer.code == 2
    assert answer.line == (
        "--stage data: nothing to compare: run 'tiny' was not asked about rows of its data; "
        "name another stage: base, sft, iteration-01, iteration-02"
    )


@pytest.mark.slow
def test_one_stage_is_made_again_from_what_the_run_has_before_it(own: Played) -> None:
    """The rerun stands in a runs root of its own, or its evaluations would be compared with themselves."""
    answer = reproduce(own, "--stage", "sft", "--into", "again")
    assert answer.code == 0, answer.err
    assert "rerun: 8 images sampled, 3 optimizer steps, 8 images scored" in answer.out
    assert [line.split()[0] for line in answer.out.splitlines() if " none" in line] == ["sft"] * 5
    made = RunsRoot(own.root / "again").run("tiny")
    assert made.sft.checkpoint(3).is_dir()
    assert not made.sft.training_log.samefile(folder_of(own).sft.training_log)
    assert made.prompts.samefile(folder_of(own).prompts)


@pytest.mark.slow
def test_a_whole_run_comes_again_bit_for_bit(own: Played) -> None:
    answer = reproduce(own)
    assert answer.code == 0, answer.err
    assert "rerun: 80 images sampled, 9 optimizer steps, 40 images scored" in answer.out
    assert "reproduced: every part is equal bit for bit" in answer.out


def changed_record(run: Played, **values: object) -> None:
    write_record(folder_of(run), read_record(folder_of(run)) | values)


def test_other_code_is_refused(copy: Callable[[], Played]) -> None:
    run = copy()
    changed_record(run, code_version="0.0.1+0123456789ab")
    line = reproduce(run).line
    assert "was made by other code: code_version: 0.0.1+0123456789ab -> " in line
    assert line.endswith("or go on with --any-code")


@pytest.mark.slow
def test_other_code_goes_on_where_it_is_asked_for_and_is_told(copy: Callable[[], Played]) -> None:
    run = copy()
    changed_record(run, code_version="0.0.1+0123456789ab")
    answer = reproduce(run, "--sample", "1", "--stage", "base", "--any-code")
    assert answer.code == 0
    assert "what differs may come from that" in answer.out


def test_a_run_that_is_not_finished_or_has_lost_its_base_is_refused(copy: Callable[[], Played], tmp_path: Path) -> None:
    run = copy()
    stages = read_record(folder_of(run))["stages"]
    changed_record(run, stages=stages[:3])
    assert reproduce(run).line.startswith("run 'tiny' is not finished: it has no iteration-02")
    changed_record(run, stages=stages, base={"path": str(tmp_path / "gone"), "digest": "0" * 64})
    assert "the base model of the run is not on" in reproduce(run, "--sample", "1").line


@pytest.mark.slow
def test_data_that_has_changed_is_refused(copy: Callable[[], Played]) -> None:
    run = copy()
    changed_record(run, data_digest="0" * 64)
    line = reproduce(run, "--into", "changed").line
    assert line.startswith("miniature: the data has changed since the run: 000000000000 -> ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--stage", "iteration-07"), "run 'tiny' has no stage 'iteration-07' to repeat; stages: sft, iteration-01"),
        (("--into", "../out"), "--into: expected 1 to 64 letters"),
        (("--into", "tiny"), "tiny: is a run itself; name another folder with --into"),
        (("--sample", "1", "--into", "x"), "--into: a sample leaves nothing behind"),
        (("--sample", "1", "--stage", "nothing"), "run 'tiny' has no stage 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_one_line(own: Played, words: tuple[str, ...], line: str) -> None:
    assert line in reproduce(own, *words).line


def test_a_comparison_is_no_run_to_repeat(copy: Callable[[], Played]) -> None:
    run = copy()
    changed_record(run, kind="comparison")
    assert "compares models that no run here has made" in reproduce(run).line
    assert json.loads(folder_of(run).record.read_text())["kind"] == "comparison"
