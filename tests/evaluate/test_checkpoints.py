"""The judges from the files that the real ones come in; small models, listed in sha256.json."""

from __future__ import annotations

import json
import shutil

import hpsv2.utils
import numpy as np
import pytest

from spin.core.errors import ArtifactError, ConfigError
from spin.core.store import hash_file
from spin.evaluate import pins
from spin.evaluate.checkpoints import Checkpoint
from spin.evaluate.pins import HPS_FILES, judge_version, pinned_sha256, weight_files
from tests.evaluate.golden_scorers import deviation, goldens
from tests.evaluate.judge_folder import HEAD, write_judges

JUDGES = {"pickscore": 1e-3, "hpsv2": 1e-5, "image_reward": 1e-3, "aesthetic": 1e-4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_judges(tmp_path_factory.mktemp("judges"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "judges")


@pytest.mark.parametrize("judge", JUDGES)
def test_a_judge_out_of_its_files_equals_the_goldens(folder, judge):
    scorer = Checkpoint(judge, folder).build()
    assert deviation(scorer, goldens().expected(judge.replace("image_reward", "imagereward"))) <= JUDGES[judge]
    assert scorer.version == judge_version(judge, folder)
    assert len(scorer.version) == 16


def test_the_hpsv2_package_names_the_same_checkpoints():
    assert hpsv2.utils.hps_version_map == dict(HPS_FILES)
    assert [file.name for file in weight_files("hpsv2", hps_version="v2.1")] == ["HPS_v2.1_compressed.pt"]


def test_versions_and_antialias_stand_in_settings_and_version(folder, copy):
    scorer = Checkpoint("hpsv2", folder, "v2.1", hps_antialias=False).build()
    assert scorer.settings == {"hps_version": "v2.1", "hps_antialias": False}
    assert scorer.version != judge_version("hpsv2", folder)
    assert deviation(scorer, goldens().expected("hpsv2", "scores_antialias_false")) <= 1e-5


def test_every_file_is_pinned_by_a_revision_and_the_known_ones_by_sha256():
    files = [file for judge in JUDGES for file in weight_files(judge)]
    assert len(files) == 9
    assert all(len(file.revision) == 40 or file.url is not None for file in files)
    assert {file.name for file in files if file.sha256} == {"config.json", "model.safetensors", HEAD}
    head = next(file for file in files if file.name == HEAD)
    assert head.sha256 == "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"
    assert weight_files("hpsv2", hps_version="v2.1")[0].sha256 is not None


def test_weights_that_are_not_the_listed_ones_are_refused(copy):
    path = copy / "aesthetic" / HEAD
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match="is not the pinned checkpoint: expected sha256"):
        Checkpoint("aesthetic", copy).build()


def test_without_a_list_the_published_pins_hold(copy):
    (copy / "sha256.json").unlink()
    with pytest.raises(ArtifactError, match=r"config\.json: is not the pinned .* sha256 8a09b467700c5813"):
        Checkpoint("aesthetic", copy).build()


def test_the_version_is_that_of_the_files_and_moves_with_them(copy):
    before = judge_version("pickscore", copy)
    names = json.loads((copy / "sha256.json").read_text())
    (copy / "sha256.json").unlink()
    assert judge_version("pickscore", copy) == before  # hashed, not listed: the same files
    (copy / "pickscore" / "config.json").write_text("{}")
    assert judge_version("pickscore", copy) != before
    assert names["pickscore/config.json"] != hash_file(copy / "pickscore" / "config.json")


@pytest.mark.parametrize(("content", "line"), [
    ("{", "cannot be read"), ('{"a": "short"}', "'a' has no sha256 of 64 hex digits"), ("[1]", "has no sha256"),
])  # fmt: skip
def test_a_list_of_pins_that_is_none_is_one_line(copy, content, line):
    (copy / "sha256.json").write_text(content)
    with pytest.raises(ConfigError, match=line):
        Checkpoint("pickscore", copy).build()


def test_missing_files_and_folders_are_named(copy, tmp_path):
    shutil.rmtree(copy / "image_reward")
    with pytest.raises(ArtifactError, match=r"image_reward/vocab\.txt"):
        Checkpoint("image_reward", copy).build()
    with pytest.raises(ConfigError, match="no such folder; set evaluation"):
        Checkpoint("pickscore", tmp_path / "nowhere").build()
    (copy / "pickscore" / "config.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"pickscore/config\.json: is not the pinned checkpoint"):
        Checkpoint("pickscore", copy).build()
    (copy / "sha256.json").unlink()
    with pytest.raises(ArtifactError, match=r"pickscore/config\.json: cannot be read"):
        Checkpoint("pickscore", copy).build()
    (copy / "hpsv2" / "open_clip_config.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"open_clip_config\.json: cannot be read"):
        Checkpoint("hpsv2", copy).build()


@pytest.mark.parametrize(("judge", "name"), [
    ("hpsv2", "open_clip_config.json"), ("image_reward", "vit_config.json"), ("aesthetic", "config.json"),
    ("image_reward", "med_config.json"), ("image_reward", "vocab.txt"),
])  # fmt: skip
def test_a_config_that_moves_scores_moves_the_version_or_is_refused(copy, judge, name):
    before = judge_version(judge, copy)
    path = copy / judge / name
    path.write_text(path.read_text("utf-8") + " ", "utf-8")
    if judge_version(judge, copy) == before:
        with pytest.raises(ArtifactError, match="is not the pinned checkpoint"):
            Checkpoint(judge, copy).build()


def test_a_checkpoint_without_its_state_dict_is_named(copy, monkeypatch):
    import torch

    torch.save({"model": {}}, copy / "hpsv2" / "HPS_v2_compressed.pt")
    (copy / "sha256.json").unlink()
    with pytest.raises(ArtifactError, match="holds no state_dict"):
        Checkpoint("hpsv2", copy).build()


def test_a_hub_that_is_away_is_one_line_with_a_way_out(monkeypatch, tmp_path):
    from huggingface_hub.errors import LocalEntryNotFoundError

    from spin.evaluate import checkpoints

    def away(*args, **kwargs):
        raise LocalEntryNotFoundError("the hub is away")

    monkeypatch.setattr(checkpoints, "hf_hub_download", away)
    with pytest.raises(ArtifactError) as caught:
        Checkpoint("pickscore").build()
    assert str(caught.value) == (
        "yuvalkirstain/PickScore_v1/config.json: cannot be downloaded: the hub is away; go online once, or put it at"
        " FOLDER/pickscore/config.json and set evaluation.scorers_folder=FOLDER"
    )


def test_a_file_that_is_pinned_nowhere_is_held_against_its_name_in_the_hubs_cache(folder, tmp_path, monkeypatch):
    from spin.evaluate import checkpoints

    blob = tmp_path / ("0" * 64)
    shutil.copy(folder / "hpsv2" / "HPS_v2_compressed.pt", blob)
    (tmp_path / "HPS_v2_compressed.pt").symlink_to(blob)
    monkeypatch.setattr(checkpoints, "fetch", lambda file, folder: tmp_path / "HPS_v2_compressed.pt")
    assert pinned_sha256(weight_files("hpsv2")[0], None) is None
    with pytest.raises(ArtifactError, match="is not the pinned checkpoint: expected sha256 0000"):
        Checkpoint("hpsv2").build()


def test_large_files_are_hashed_once(folder, monkeypatch):
    counted = []
    pins._hash_once.cache_clear()
    monkeypatch.setattr(pins, "hash_file", lambda path: counted.append(path) or "a" * 64)
    monkeypatch.setattr(pins, "_own_pins", lambda folder: {})
    assert judge_version("hpsv2", folder) == judge_version("hpsv2", folder)
    assert [path.name for path in counted].count("HPS_v2_compressed.pt") == 1
    pins._hash_once.cache_clear()


def test_scores_of_the_same_files_are_the_same_bits(folder):
    images, prompts = goldens().images[:3], list(goldens().prompts[:3])
    scores = [Checkpoint("hpsv2", folder).build().score(images, prompts).numpy() for _ in range(2)]
    assert np.array_equal(*scores)
