"""Our HPSv2 against the hpsv2 package itself, with the same weights in both."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from spin.core.errors import ArtifactError
from spin.core.store import hash_file
from spin.evaluate import hps_package
from spin.evaluate.goldens import hpsv2 as golden_hpsv2
from spin.evaluate.hpsv2 import HPSv2
from spin.evaluate.weights import load_state
from tests.evaluate.golden_scorers import goldens


@pytest.fixture
def package(tmp_path, monkeypatch) -> ModuleType:
    """hpsv2.img_score, which keeps its hands off the home folder and starts without a model."""
    if find_spec("tkinter") is None:  # a stray import of the package: `from turtle import forward`
        monkeypatch.setitem(sys.modules, "turtle", ModuleType("turtle"))
        sys.modules["turtle"].forward = None  # type: ignore[attr-defined]
    hps_package.complete()
    found = importlib.import_module("hpsv2.img_score")
    monkeypatch.setattr(found, "root_path", str(tmp_path))
    monkeypatch.setattr(found, "device", "cpu")
    monkeypatch.setattr(found, "model_dict", {})
    return found


def fill(package: ModuleType, model: torch.nn.Module) -> None:
    transform = importlib.import_module("hpsv2.src.open_clip.transform")
    package.model_dict |= {
        "model": model,
        "preprocess_val": transform.image_transform(224, is_train=False, resize_longest_max=True),
    }


def theirs(package: ModuleType, checkpoint: Path, image: Image.Image, prompt: str) -> float:
    return float(package.score(image, prompt, cp=str(checkpoint))[0])


def test_the_small_model_scores_every_pair_as_in_the_package(package, tmp_path):
    open_clip = importlib.import_module("hpsv2.src.open_clip.model")
    fill(package, open_clip.CLIP(**goldens().config("hpsv2", "open_clip_config"), output_dict=True))
    checkpoint = tmp_path / "small.pt"
    torch.save({"state_dict": goldens().state("hpsv2", "state_dict")}, checkpoint)
    ours = golden_hpsv2(goldens())
    for image in goldens().images:
        rgb = image.convert("RGB") if image.mode == "RGBA" else image  # on RGBA the package raises
        expected = [theirs(package, checkpoint, rgb, prompt) for prompt in goldens().prompts]
        found = ours.score([image] * len(expected), goldens().prompts)
        assert np.abs(found.numpy() - expected).max() <= 1e-6


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_of_full_size_scores_as_in_the_package(package, tmp_path):
    """ViT-H/14 with random weights: 986 million parameters, in both."""
    factory = importlib.import_module("hpsv2.src.open_clip.factory")
    open_clip = importlib.import_module("open_clip")
    torch.manual_seed(0)
    model = factory.create_model("ViT-H-14", precision="fp32", device="cpu", output_dict=True)
    checkpoint = tmp_path / "large.pt"
    torch.save({"state_dict": model.state_dict()}, checkpoint)
    fill(package, model)
    images, prompts = goldens().images[:2], goldens().prompts[:2]
    expected = [theirs(package, checkpoint, image, prompt) for image, prompt in zip(images, prompts, strict=True)]
    del model
    package.model_dict.clear()
    ours = HPSv2(open_clip.get_model_config("ViT-H-14"), load_state(checkpoint)["state_dict"])
    assert ours.score(images, prompts).numpy() == pytest.approx(np.array(expected), abs=1e-5)


def test_the_package_finds_the_vocabulary_that_its_wheel_lacks():
    path = hps_package.complete()
    assert path.parts[-4:] == ("hpsv2", "src", "open_clip", hps_package.VOCABULARY)
    assert hash_file(path) == hps_package._VOCABULARY_SHA256


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(hps_package, "find_spec", lambda name: None)
    with pytest.raises(ArtifactError, match="package hpsv2 is not installed; make install"):
        hps_package.complete()
