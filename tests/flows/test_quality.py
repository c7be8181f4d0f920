"""`quality`: what is refused, what is drawn, what is kept, and that nothing is drawn twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.approximating import Question, question_of
from spin.core.config import load_config
from spin.core.errors import ConfigError
from spin.core.layout import EvaluationFolder
from spin.core.schema import read_table, read_tensors
from spin.core.store import is_intact, read_manifest
from spin.evaluate.shards import artifacts_of
from tests.flows.command_line import Answer, type_in

pytestmark = pytest.mark.system

SETTINGS = (
    "data.rows=24", "evaluation.prompts=6", "evaluation.shard_size=4", "evaluation.batch_size=4",
    "sampling.reuse_every=2", "sampling.num_inference_steps=4",
)  # fmt: skip
WORDS = (*(word for setting in SETTINGS for word in ("--set", setting)), "--steps", "5", "--reference", "9")


def question(*overrides: str, steps: int | None = None, reference: int = 200) -> Question:
    config = load_config("miniature", overrides=["sampling.reuse_every=3", *overrides])
    return question_of(config, steps=steps, reference=reference)


@dataclass(frozen=True)
class Asked:
    folder: Path
    answer: Answer


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("quality")
    return Asked(folder, type_in(folder, "quality", "miniature", *WORDS))


def kept(asked: Asked) -> Path:
    (path,) = (asked.folder / "runs").glob("quality-miniature-*/quality.json")
    return path


def drawn(asked: Asked) -> dict[str, EvaluationFolder]:
    facts = json.loads(kept(asked).read_text("utf-8"))
    return {name: EvaluationFolder(asked.folder / "runs" / found["folder"]) for name, found in facts["drawn"].items()}


def test_the_table_names_what_is_left_out_and_what_it_costs(asked: Asked) -> None:
    assert (asked.answer.code, asked.answer.err) == (0, "")
    out = " ".join(asked.answer.out.split())
    assert "approximated: 4 solver steps instead of 5, deep features of every 2nd call reused" in out
    assert "to 9 steps" in out
    for judge in ("alignment", "aesthetic", "attributes"):
        assert f"{judge} " in out
    assert "6 prompts of test" in out
    assert "18 images drawn" in out
    assert "spin-diffusion compare approximations" in out


def test_three_ways_are_drawn_from_the_same_noise(asked: Asked) -> None:
    folders = drawn(asked)
    assert set(folders) == {"default", "approximated", "reference"}
    identities = {name: read_manifest(folder.latents(0)).identity["settings"] for name, folder in folders.items()}  # type: ignore[union-attr]
    assert {name: each["num_inference_steps"] for name, each in identities.items()} == {
        "default": 5, "approximated": 4, "reference": 9,
    }  # fmt: skip
    assert [name for name, each in identities.items() if "reuse_every" in each] == ["approximated"]
    assert {each["guidance_scale"] for each in identities.values()} == {1.0}
    seeds = {name: read_table(folder.images(0))["seed"].to_pylist() for name, folder in folders.items()}
    assert seeds["default"] == seeds["approximated"] == seeds["reference"]


def test_latents_are_kept_of_every_picture(asked: Asked) -> None:
    for folder in drawn(asked).values():
        assert [read_tensors(read_table(folder.latents(shard)), "latent").shape for shard in (0, 1)] == [
            (4, 16, 4, 4), (2, 16, 4, 4),
        ]  # fmt: skip


def test_errors_that_no_answer_reads_are_not_measured(asked: Asked) -> None:
    assert not list((asked.folder / "runs").rglob("denoising"))
    whole = {path for folder in drawn(asked).values() for path in artifacts_of(folder)}
    assert len(whole) == 3 * (4 * 2 + 1)  # images, latents, quarantine and scores of two shards, and the set's numbers
    assert all(path.exists() for path in whole)


def test_the_numbers_stand_in_the_runs_root(asked: Asked) -> None:
    facts = json.loads(kept(asked).read_text("utf-8"))
    assert (facts["steps"], facts["reference"], facts["benchmark"]) == (5, 9, "test")
    # 2 of 4 calls are shallow, 4 of 5 are asked at all
    assert 0.2 < facts["saved"] < 0.6
    distances = kept(asked).with_name("distances.parquet")
    assert is_intact(distances)
    values = read_table(distances).to_pydict()
    assert len(values["prompt_id"]) == 6
    mean = sum(values["approximated"]) / 6
    assert facts["quality"]["approximated"]["value"] == pytest.approx(mean)
    assert mean > sum(values["default"]) / 6 > 0


def test_a_second_call_draws_nothing(asked: Asked) -> None:
    root = asked.folder / "runs"
    before = {path: path.stat().st_mtime_ns for path in [*root.rglob("*.parquet"), kept(asked)]}
    again = type_in(asked.folder, "quality", "miniature", *WORDS)
    assert (again.code, again.err) == (0, "")
    assert "0 images drawn" in " ".join(again.out.split())
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_it_is_no_run(asked: Asked) -> None:
    name = kept(asked).parent.name
    assert "compares models that no run here has made" in type_in(asked.folder, "lineage", name).line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            (),
            "miniature: samples exactly, in 20 steps: there is nothing to judge; set sampling.guidance_interval, samp",
        ),
        (("--set", "sampling.reuse_every=2", "--reference", "20"), "--reference: 20 steps are no reference for 20"),
        (("--set", "sampling.num_inference_steps=10", "--steps", "10"), "samples exactly, in 10 steps"),
        (("--set", "sampling.guidance_interval=[0.2,0.8]"), "has no use with sampling.guidance_scale 1"),
    ],
)
def test_what_cannot_be_judged_is_one_line(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    assert line in type_in(tmp_path, "quality", "miniature", *words).line
    assert not (tmp_path / "runs").exists()


def test_fewer_steps_are_judged_against_twenty() -> None:
    found = question("sampling.num_inference_steps=8")
    assert (found.steps, found.told) == (
        20, "8 solver steps instead of 20, deep features of every 3rd call reused",
    )  # fmt: skip
    assert question("sampling.num_inference_steps=50").steps == 50
    assert question("sampling.num_inference_steps=50", steps=30).told == "deep features of every 3rd call reused"


def test_each_question_has_a_folder_of_its_own() -> None:
    names = [
        question().folder.path.name, question("sampling.reuse_every=2").folder.path.name,
        question(steps=30).folder.path.name, question(reference=100).folder.path.name,
        question("evaluation.prompts=8").folder.path.name, question(f"run.name={'n' * 64}").folder.path.name,
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert question().folder == question("execution.device=cpu").folder
    assert all(len(name) <= 64 for name in names)


def test_a_transformer_has_nothing_to_reuse(folder_of, tmp_path: Path) -> None:
    from flows.entering import check_sources

    config = load_config("miniature", overrides=[f"model.base={folder_of('sd3')}", "sampling.reuse_every=2"])
    with pytest.raises(ConfigError, match=r"sampling\.reuse_every: the model's transformer is no UNet"):
        check_sources(config)
