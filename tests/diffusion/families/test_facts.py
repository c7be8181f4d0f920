"""Models of different families do not stand in one table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spin.core.errors import ConfigError
from spin.diffusion.families.facts import facts_of, picture_size, refuse_other_family
from spin.miniature.packaged import packaged_pipeline_path
from tests.families import change


@pytest.fixture
def model(tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(packaged_pipeline_path(), copy, ignore=shutil.ignore_patterns("*.safetensors"))
    return copy


def test_a_model_is_of_its_own_family(model: Path) -> None:
    refuse_other_family("arm 'x'", model, packaged_pipeline_path())
    assert facts_of(model).latent_channels == 16


@pytest.mark.parametrize(
    ("file", "values", "named"),
    [
        ("unet/config.json", {"in_channels": 4}, "latent channels 4 against 16"),
        ("unet/config.json", {"sample_size": 64}, "latent size 64 against 4"),
        ("unet/config.json", {"cross_attention_dim": 768}, "text width 768 against"),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "prediction v_prediction against"),
    ],
)
def test_another_family_is_refused_with_what_differs(
    model: Path, file: str, values: dict[str, object], named: str
) -> None:
    change(model / file, **values)
    with pytest.raises(ConfigError, match="arm 'x' is of another family than the base model") as caught:
        refuse_other_family("arm 'x'", model, packaged_pipeline_path())
    assert named in str(caught.value)


def test_a_folder_without_configs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a diffusers pipeline; set model\.base"):
        facts_of(tmp_path)


def test_the_models_own_size_is_its_latents_side_times_the_vae_factor(model: Path) -> None:
    assert picture_size(model, resolution=None) == 32
    change(model / "unet/config.json", sample_size=64)
    assert picture_size(model, resolution=None) == 512
    change(model / "vae/config.json", block_out_channels=[8] * 3)
    assert picture_size(model, resolution=None) == 256


def test_only_the_models_own_resolution_is_taken(model: Path) -> None:
    assert picture_size(model, resolution=32) == 32
    with pytest.raises(ConfigError, match=r"data.resolution: 64 is not the model's own 32; set it to null"):
        picture_size(model, resolution=64)


def test_a_model_without_a_square_size_is_refused(model: Path) -> None:
    change(model / "unet/config.json", sample_size=[64, 96])
    with pytest.raises(ConfigError, match=r"no square size of its own.*use a model with a square sample_size"):
        picture_size(model, resolution=None)


@pytest.mark.parametrize(
    ("content", "named"), [("", "is not valid JSON"), ("[]", "lacks 'sample_size'"), ("{}", "lacks 'sample_size'")]
)
def test_a_damaged_model_folder_is_named(model: Path, content: str, named: str) -> None:
    (model / "unet" / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=named):
        facts_of(model)
