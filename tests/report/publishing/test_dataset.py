"""A run's tables as `datasets` loads them, without a network and without copies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.schema import PROMPTS, SAFETY, UNSAFE, read_table
from spin.report.publishing.dataset import publish_dataset
from tests.report.conftest import commit_rows
from tests.report.publishing.conftest import Publishable, make


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The cache of `datasets` in a folder of its own, and no hub."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return


@pytest.fixture(scope="module")
def folder(standing: Publishable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("published") / "tables"
    publish_dataset(standing.subject(), into)
    return into


def load(folder: Path, config: str, **options: Any) -> Any:
    from datasets import load_dataset

    return load_dataset(str(folder), config, **options)


def test_every_config_of_the_card_loads(folder: Path) -> None:
    from datasets import get_dataset_config_names

    names = get_dataset_config_names(str(folder))
    assert {"scores", "images", "training_log", "scores.partiprompts.best_of_n"} <= set(names)
    for name in names:
        assert all(len(rows) > 0 for rows in load(folder, name).values()), name


def test_scores_have_a_split_for_each_model_and_the_run_s_own_rows(folder: Path, standing: Publishable) -> None:
    scores = load(folder, "scores")
    assert list(scores) == ["data", "base", "sft", "iteration_01"]
    entry = next(stage for stage in standing.record()["stages"] if stage["name"] == "iteration-01")
    table = read_table(standing.root / entry["evaluation"] / "scores" / "shard-00000.parquet")
    assert scores["iteration_01"].to_list() == table.to_pylist()


def test_pictures_are_pictures_and_the_real_ones_stay_at_home(folder: Path) -> None:
    images = load(folder, "images")
    assert list(images) == ["base", "sft", "iteration_01"]
    assert images["base"][0]["image"].size == (32, 32)
    assert not list((folder / "images").glob("data*"))


def test_the_log_of_training_is_a_table_too(folder: Path) -> None:
    log = load(folder, "training_log", split="iteration_01")
    assert log["step"] == list(range(1, 41))


def test_files_are_hard_links_that_cost_no_space(folder: Path, standing: Publishable) -> None:
    log = RunsRoot(standing.root).run("miniature").iteration(1).training_log
    assert (folder / "training_log" / "iteration_01" / "log.parquet").samefile(log)


def test_latents_are_read_as_the_card_says(world: Any, sampled: Any, publishable: Publishable, tmp_path: Path) -> None:
    stage = publishable.root / "miniature" / "iteration-01"
    shutil.copytree(sampled.samples(0).parent, stage / "samples")
    publish_dataset(publishable.subject(), tmp_path / "out")
    row = load(tmp_path / "out", "samples", split="iteration_01")[0]
    assert 'np.frombuffer(row["latent"], "float32").reshape([16, 4, 4])' in (tmp_path / "out" / "README.md").read_text()
    latent = np.frombuffer(row["latent"], "float32").reshape([16, 4, 4])
    assert np.isfinite(latent).all()
    assert latent.std() > 0


def test_prompts_are_there_and_an_empty_quarantine_is_not(publishable: Publishable, tmp_path: Path) -> None:
    folder = RunsRoot(publishable.root).run("miniature")
    rows = [{"sample_id": "a", "caption": "a cat", "prompt_hash": "b", "split": "train", "origin": "1.png"}]
    commit_rows(folder.prompts, PROMPTS, rows, "prompts")
    made = publish_dataset(publishable.subject(), tmp_path / "out")
    assert "prompts" in made.configs
    assert "quarantine" not in made.configs
    assert load(tmp_path / "out", "prompts", split="rows")[0]["caption"] == "a cat"


def test_pictures_among_which_one_is_marked_stay_at_home_and_the_card_says_so(tmp_path: Path) -> None:
    run = make(tmp_path / "runs")
    stages = {stage["name"]: EvaluationFolder(run.root / stage["evaluation"]) for stage in run.record()["stages"]}
    for name, marks in (("base", [False, False]), ("iteration-01", [False, True])):
        rows = [{"prompt_id": str(row), "draw": 0, UNSAFE: mark} for row, mark in enumerate(marks)]
        commit_rows(stages[name].safety(0), SAFETY, rows, "safety")
    publish_dataset(run.subject(), tmp_path / "out")
    assert "base" in load(tmp_path / "out", "images")
    assert "iteration_01" not in load(tmp_path / "out", "images")
    assert load(tmp_path / "out", "safety", split="iteration_01")[UNSAFE] == [False, True]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- `images` of `iteration_01`: 1 marked as unsafe" in card
    assert card.count("marked as unsafe") == 1


def test_a_damaged_table_is_not_published(publishable: Publishable, tmp_path: Path) -> None:
    log = RunsRoot(publishable.root).run("miniature").iteration(1).training_log
    data = log.read_bytes()
    log.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(ArtifactError, match=r"log\.parquet: bytes differ from the manifest"):
        publish_dataset(publishable.subject(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_that_has_made_nothing_is_refused(publishable: Publishable, tmp_path: Path) -> None:
    publishable.change(stages=[], data={})
    with pytest.raises(ConfigError, match="miniature: holds nothing to publish yet"):
        publish_dataset(publishable.subject(), tmp_path / "out")
