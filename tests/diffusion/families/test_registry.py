from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from spin.core.errors import ConfigError
from spin.diffusion.families.registry import check_model, families, family_of
from tests.families import build, change
from tests.world import World


@pytest.fixture
def base(world: World, tmp_path: Path) -> Path:
    """A copy of the packaged pipeline, free to break."""
    return Path(shutil.copytree(world.base, tmp_path / "base"))


@pytest.fixture(scope="session")
def xl(folder_of: Callable[[str], Path]) -> Path:
    return folder_of("sdxl")


def test_every_module_of_the_package_is_a_family() -> None:
    assert list(families()) == ["StableDiffusion3Pipeline", "StableDiffusionPipeline", "StableDiffusionXLPipeline"]


def test_the_packaged_pipeline_is_a_model(world: World) -> None:
    check_model(world.base)
    assert family_of(world.base).denoiser == "unet"


def test_what_is_no_model_is_refused_by_name(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model_index\.json: not a diffusers pipeline; set model\.base"):
        check_model(base / "unet")
    shutil.rmtree(base / "vae")
    with pytest.raises(ConfigError, match="lacks vae; set model"):
        check_model(base)
    (base / "model_index.json").write_text("{", "utf-8")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        check_model(base)


def test_an_unknown_class_is_answered_with_the_known_ones(base: Path) -> None:
    change(base / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(
        ConfigError, match=r"is a FluxPipeline, which is not supported; use one of StableDiffusion3.*XL"
    ):
        check_model(base)


def test_a_component_that_the_index_leaves_empty_is_missing(xl: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(xl, tmp_path / "xl"))
    change(folder / "model_index.json", text_encoder_2=[None, None])
    with pytest.raises(ConfigError, match="lacks text_encoder_2"):
        check_model(folder)


def test_a_component_of_another_class_is_refused(base: Path) -> None:
    change(base / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    with pytest.raises(ConfigError, match="vae is a AutoencoderTiny, not a AutoencoderKL"):
        check_model(base)


@pytest.mark.parametrize(
    ("channels", "problem"),
    [(4, "unet takes 4 latent channels, vae gives 16;"), (33, "gives 16; it is made for inpainting;")],
)
def test_latents_that_do_not_fit_are_met_before_the_first_step(base: Path, channels: int, problem: str) -> None:
    change(base / "unet" / "config.json", in_channels=channels)
    with pytest.raises(ConfigError, match=problem):
        check_model(base)


def test_text_that_does_not_fit_is_met_before_the_first_step(base: Path, xl: Path, tmp_path: Path) -> None:
    change(base / "unet" / "config.json", cross_attention_dim=768)
    with pytest.raises(ConfigError, match=r"unet takes text of width 768 \(embedding\), the text encoders give 96"):
        check_model(base)
    folder = Path(shutil.copytree(xl, tmp_path / "xl"))
    change(folder / "text_encoder_2" / "config.json", projection_dim=32)
    with pytest.raises(ConfigError, match=r"of width 16 \(pooled\), the text encoders give 32"):
        check_model(folder)


def test_a_network_that_is_told_sizes_must_have_the_vae_they_are_of(xl: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(xl, tmp_path / "xl"))
    change(folder / "vae" / "config.json", block_out_channels=[8, 8, 16])
    with pytest.raises(ConfigError, match="a latent of its vae is 4 pixels wide, unet is told 8"):
        check_model(folder)


def test_weights_that_are_not_there_are_named(base: Path) -> None:
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(
        ConfigError, match=r"unet: holds no \.safetensors weights; restore it; save pickled weights anew"
    ):
        check_model(base)
    (base / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors").touch()
    index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors", "b": "two.safetensors"}}
    (base / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"unet: lacks two\.safetensors"):
        check_model(base)


def test_a_prediction_that_no_loss_is_written_for_is_refused(base: Path) -> None:
    change(base / "scheduler" / "scheduler_config.json", prediction_type="sample")
    with pytest.raises(ConfigError, match="prediction type 'sample'; use a model that predicts one of epsilon, v"):
        check_model(base)


def test_a_flow_that_shifts_by_size_is_refused(tmp_path: Path) -> None:
    build("sd3").save_pretrained(tmp_path / "sd3")
    change(tmp_path / "sd3" / "scheduler" / "scheduler_config.json", use_dynamic_shifting=True)
    with pytest.raises(ConfigError, match="use_dynamic_shifting"):
        check_model(tmp_path / "sd3")


def test_weights_of_another_variant_are_not_the_weights(base: Path) -> None:
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(ConfigError, match=r"holds no \.safetensors weights, only diffusion_pytorch_model\.fp16"):
        check_model(base)


def test_latents_and_noise_of_other_kinds_are_refused(base: Path) -> None:
    change(base / "vae" / "config.json", latents_mean=[0.0] * 16)
    with pytest.raises(ConfigError, match="scales its latents channel by channel"):
        check_model(base)
    change(base / "vae" / "config.json", latents_mean=None)
    change(base / "scheduler" / "scheduler_config.json", _class_name="EDMDPMSolverMultistepScheduler")
    with pytest.raises(ConfigError, match="is a EDMDPMSolverMultistepScheduler, whose noise is another"):
        check_model(base)
