"""A newcomer with a folder of real pictures: init, check, run, run again; then the folder changes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spin.core.layout import EvaluationFolder, RunFolder, RunsRoot
from spin.core.schema import read_table
from spin.core.store import is_intact
from tests.digits import export_digits
from tests.flows.command_line import Answer, type_in
from tests.world import fingerprint

pytestmark = pytest.mark.system

TINY = (
    "sft.steps=2", "sft.batch_size=4", "train.steps=2", "train.batch_size=4", "train.micro_batch_size=4",
    "sampling.num_inference_steps=2", "sampling.batch_size=4", "sampling.shard_size=4",
    "evaluation.num_inference_steps=2", "evaluation.prompts=4", "evaluation.batch_size=4",
    "evaluation.denoising_draws=2",
)  # fmt: skip
SETTINGS = tuple(word for text in TINY for word in ("--set", text))
GOOD = 60
Files = dict[str, tuple[bytes, int]]


@dataclass(frozen=True)
class Newcomer:
    """An empty folder, the pictures beside it, and what each command answered."""

    folder: Path
    pictures: Path
    before: Files
    answers: dict[str, Answer]

    @property
    def run(self) -> RunFolder:
        return RunsRoot(self.folder / "runs").run("digits")

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run.record.read_text())
        return found


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """60 good scans, a picture cut in the middle and a row without a caption; the same run twice."""
    folder = tmp_path_factory.mktemp("newcomer")
    pictures = export_digits(tmp_path_factory.mktemp("pictures") / "digits", GOOD)
    whole = (pictures / "digit-0000.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "silent.png").write_bytes((pictures / "digit-0001.png").read_bytes())
    with (pictures / "metadata.jsonl").open("a") as stream:
        stream.write('{"file_name": "cut.png", "text": "a digit cut in the middle"}\n{"file_name": "silent.png"}\n')
    before = fingerprint(pictures)
    answers = {
        "init": type_in(folder, "init", str(pictures)),
        "check": type_in(folder, "check", "spin.yaml", *SETTINGS),
        "run": type_in(folder, "run", "spin.yaml", *SETTINGS),
        "again": type_in(folder, "run", "spin.yaml", *SETTINGS),
    }
    return Newcomer(folder, pictures, before, answers)


def test_every_command_of_a_newcomer_succeeds_and_says_what_comes_next(newcomer: Newcomer) -> None:
    answers = newcomer.answers
    assert {name: (answer.code, answer.err) for name, answer in answers.items()} == dict.fromkeys(answers, (0, ""))
    assert "next: spin-diffusion check spin.yaml" in answers["init"].out
    assert "fine; run 'digits', 1 iterations, data imagefolder" in answers["check"].out
    # evaluated: data, base, SFT, SPIN 1, the test rows each
    rows = min(4, newcomer.record["prompts"]["test"])
    drawn = 3 * 4 * rows  # by three models, four of each prompt for their diversity
    assert f"{8 + drawn} images sampled, 4 optimizer steps, {rows + drawn} images scored" in answers["run"].out


def test_a_second_run_does_nothing(newcomer: Newcomer) -> None:
    assert "0 images sampled, 0 optimizer steps, 0 images scored" in newcomer.answers["again"].out


def test_the_pictures_are_as_they_were(newcomer: Newcomer) -> None:
    assert fingerprint(newcomer.pictures) == newcomer.before


def test_checkpoints_and_their_held_out_loss_stand(newcomer: Newcomer) -> None:
    stages = {stage["name"]: stage for stage in newcomer.record["stages"]}
    assert list(stages) == ["base", "sft", "iteration-01"]
    root = newcomer.folder / "runs"
    for name in ("sft", "iteration-01"):
        assert is_intact(root / stages[name]["checkpoint"])
        assert (root / stages[name]["checkpoint"] / "model_index.json").is_file()
        assert read_table(root / stages[name]["training"]["log"]).num_rows == 2
        assert read_table(root / stages[name]["training"]["held_out"]).num_rows > 0
    for stage in stages.values():
        errors = read_table(EvaluationFolder(root / stage["evaluation"]).denoising(0))["error"].to_pylist()
        assert len(errors) == 2 * min(4, newcomer.record["prompts"]["test"])
        assert all(0 < error < 100 for error in errors)  # digits are far from what the miniature saw


def test_models_have_frechet_distance_and_diversity_and_no_judge_of_another_world(newcomer: Newcomer) -> None:
    root = newcomer.folder / "runs"
    for stage in newcomer.record["stages"]:
        folder = EvaluationFolder(root / stage["evaluation"])
        values = {row["metric"]: row["value"] for row in read_table(folder.set_metrics).to_pylist()}
        assert set(values) == {"frechet"}
        scores = read_table(folder.scores(0)).to_pylist()
        assert {row["scorer"] for row in scores} == {"diversity"}
        assert all(value > 0 for value in (*values.values(), *(row["score"] for row in scores)))


def test_unusable_rows_are_set_aside_counted_and_reported(newcomer: Newcomer) -> None:
    quarantine = read_table(newcomer.run.quarantine).to_pylist()
    assert [(row["origin"], row["reason"]) for row in quarantine] == [
        ("metadata.jsonl:61", "unreadable"),
        ("metadata.jsonl:62", "no caption"),
    ]
    record = newcomer.record
    assert record["quarantined"] == {"unreadable": 1, "no caption": 1}
    assert sum(record["prompts"].values()) == GOOD
    page = newcomer.run.report.read_text()
    assert "unreadable" in page
    assert "no caption" in page


def test_the_report_stands_and_its_table_was_printed(newcomer: Newcomer) -> None:
    page = newcomer.run.report.read_text()
    assert "SPIN 1" in page
    assert "Frechet" in page
    assert str(newcomer.run.report) in newcomer.answers["run"].out.replace("\n", "")
    for label in ("data", "base", "SFT", "SPIN 1"):
        assert label in newcomer.answers["run"].out


def test_held_out_rows_are_never_planned(newcomer: Newcomer) -> None:
    split = {row["sample_id"]: row["split"] for row in read_table(newcomer.run.prompts).to_pylist()}
    planned = read_table(newcomer.run.iteration(1).plan_rows)["sample_id"].to_pylist()
    assert {split[name] for name in planned} == {"train"}


def test_a_changed_folder_is_refused_and_nothing_is_lost(newcomer: Newcomer) -> None:
    added = newcomer.pictures / "later.png"
    metadata = newcomer.pictures / "metadata.jsonl"
    text = metadata.read_bytes()
    before = {name: files for name, files in fingerprint(newcomer.run.path).items() if "report" not in name}
    added.write_bytes((newcomer.pictures / "digit-0002.png").read_bytes())
    metadata.write_bytes(text + b'{"file_name": "later.png", "text": "a later digit"}\n')
    try:
        line = type_in(newcomer.folder, "run", "spin.yaml", *SETTINGS).line
    finally:
        added.unlink()
        metadata.write_bytes(text)
    assert "run digits was prepared from other data" in line
    assert "choose another run.name, or put the data back" in line
    assert {n: f for n, f in fingerprint(newcomer.run.path).items() if "report" not in n} == before


def test_a_judge_of_the_miniature_is_refused_before_anything_is_drawn(newcomer: Newcomer) -> None:
    overrides = ("--set", "evaluation.scorers=[attributes]")
    line = type_in(newcomer.folder, "run", "spin.yaml", *SETTINGS, *overrides, "--set", "run.name=judged").line
    assert "not a caption of the miniature" in line
    assert "leave `attributes` out" in line


@pytest.mark.slow
def test_eight_pictures_are_enough_for_a_run(newcomer: Newcomer) -> None:
    """One test row then: scores and loss, but no distance of sets."""
    export_digits(newcomer.folder / "few", 8)
    name = ("--config", "few.yaml")
    assert type_in(newcomer.folder, "init", "few", *name).code == 0
    played = type_in(newcomer.folder, "run", "few.yaml", *SETTINGS, "--set", "sft.steps=0")
    assert (played.code, played.err) == (0, "")
