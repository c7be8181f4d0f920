"""`publish` as a user meets it: a real run's model loads again, and nothing leaves the machine unasked."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from spin.core.config import load_config
from spin.core.config_identity import config_hash
from spin.core.draft import files
from spin.core.layout import RunsRoot
from tests.flows.command_line import Answer, type_in
from tests.flows.conftest import Played
from tests.report.publishing.hub_server import serving

pytestmark = pytest.mark.system

LICENCE = ("--set", "publish.licence=apache-2.0")


def publish(played: Played, folder: Path, *arguments: str) -> Answer:
    return type_in(folder, "publish", "tiny", "--root", str(played.root), *arguments)


def test_a_published_model_is_a_pipeline_with_the_run_s_digest(played: Played, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    from spin.diffusion.digest import model_digest

    answer = publish(played, tmp_path, "--into", "out", *LICENCE)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("wrote out: SPIN 2, digest ")
    assert model_digest(tmp_path / "out")[:12] in answer.out  # the card and the recipe are no part of it
    picture = DiffusionPipeline.from_pretrained(tmp_path / "out")("a red circle", num_inference_steps=1).images[0]
    assert picture.size == (32, 32)
    assert config_hash(load_config(tmp_path / "out" / "recipe.yaml")) == config_hash(played.config)


def test_what_nobody_has_stated_is_said_on_the_card_and_on_the_terminal(played: Played, tmp_path: Path) -> None:
    answer = publish(played, tmp_path, "--into", "out", "--checkpoint", "iteration-01", "--no-pictures")
    assert "the weights of this model: unknown: set publish.licence" in answer.out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# tiny, SPIN 1" in card
    assert "**unknown: set publish.licence**" in card
    assert not (tmp_path / "out" / "pictures.png").exists()


def test_publishing_changes_nothing_in_the_run(played: Played, tmp_path: Path) -> None:
    from tests.world import fingerprint

    run = RunsRoot(played.root).run("tiny").path
    before = fingerprint(run)
    publish(played, tmp_path, "--into", "out")
    publish(played, tmp_path, "--into", "out")  # twice into one folder
    publish(played, tmp_path, "--dataset", "tables")
    assert fingerprint(run) == before


def test_the_run_s_tables_load_from_their_folder(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    answer = publish(played, tmp_path, "--dataset", "tables")
    assert answer.code == 0, answer.err
    assert "hard-linked" in answer.out
    scores = datasets.load_dataset(str(tmp_path / "tables"), "scores")
    assert list(scores) == ["data", "base", "sft", "iteration_01", "iteration_02"]
    assert len(datasets.load_dataset(str(tmp_path / "tables"), "samples", split="iteration_02")) == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name --into DIR for a model, or --dataset DIR for the tables"),
        (("--into", "a", "--dataset", "b"), "name --into DIR for a model, or --dataset DIR"),
        (("--dataset", "b", "--checkpoint", "sft"), "--dataset: holds the whole run"),
        (("--into", "a", "--public"), "--public: nothing is pushed"),
        (("--into", "a", "--checkpoint", "iteration-07"), "no model 'iteration-07'; models: sft, iteration-01"),
        (("--into", "a", "--set", "publish.licence=My Own"), "publish.licence"),
        (("--into", "a", "--set", "train.beta=1"), "only publish.* can be set here"),
        (("--into", ".."), "holds other files"),
        (("--into", "a", "--push-to-hub", "me/x"), "nothing is pushed without a licence"),
    ],
)
def test_a_mistake_is_one_line_and_no_folder(
    played: Played, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "there").mkdir()
    assert message in publish(played, tmp_path / "there", *arguments).line
    assert list((tmp_path / "there").iterdir()) == []


def test_an_unknown_run_names_those_that_are(played: Played, tmp_path: Path) -> None:
    answer = type_in(tmp_path, "publish", "nothing", "--root", str(played.root), "--into", "a")
    assert "no run 'nothing'" in answer.line
    assert "tiny" in answer.line


@pytest.mark.parametrize(("place", "kind"), [("--into", "model"), ("--dataset", "dataset")])
def test_what_is_pushed_is_what_was_written_and_the_rest_is_named(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    assert publish(played, tmp_path, place, "out").code == 0
    written = {path.relative_to(tmp_path / "out").as_posix() for path in files(tmp_path / "out")}
    (tmp_path / "out" / "notes").mkdir()
    for beside in (".env", "notes/private.txt"):
        (tmp_path / "out" / beside).write_text("somebody's")
    with serving() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        answer = publish(played, tmp_path, place, "out", *LICENCE, "--push-to-hub", "me/mine")
    assert answer.code == 0, answer.err
    assert f"pushed to {hub.address}" in answer.out
    assert "not pushed, as publish did not write it: .env, notes" in answer.out
    assert (tmp_path / "out" / "notes" / "private.txt").exists()
    assert set(hub.files) == written
    (made,) = hub.repositories
    assert (made.get("type", "model"), made["visibility"]) == (kind, "private")
    assert "hf_of_a_test" not in answer.out + answer.err
