"""Models of real shape with random weights, as diffusers folders: a throughput does not depend on weights."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from spin.diffusion.architectures.known import KNOWN
from spin.diffusion.checkpoint import without_weights
from spin.miniature.pipeline import build_pipeline
from spin.miniature.tokenizer import build_tokenizer

_TOKENS: Final = 77  # of a prompt, as Stable Diffusion's text encoder reads it


def make_model(kind: str, folder: Path) -> Path:
    """The untrained `miniature`, a `mid` model, or one of Stable Diffusion 1.5's shapes (`sd15`); made once."""
    if not (folder / "model_index.json").exists():
        torch.manual_seed(0)
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make = {"miniature": partial(build_pipeline, 0), "mid": _mid, "sd15": _sd15}[kind]
        make().save_pretrained(unfinished)
        unfinished.rename(folder)
    return folder


def _mid() -> StableDiffusionPipeline:
    """35 M weights at 256 pixels. The VAE decodes at 3.1 forward passes, as Stable Diffusion's; it encodes at 0.9
    (1.4 there), in favour of those who encode in every step."""
    unet = UNet2DConditionModel(
        sample_size=32, block_out_channels=(128, 256, 384), layers_per_block=1, cross_attention_dim=256,
        attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(40, 80, 160, 160), layers_per_block=1, norm_num_groups=8, latent_channels=4,
        sample_size=256, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    tokenizer = _tokenizer()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=1024, num_hidden_layers=6,
            num_attention_heads=4, max_position_embeddings=_TOKENS, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    return _pipeline(unet, vae, text)


def _sd15() -> StableDiffusionPipeline:
    configs = next(known.path for known in KNOWN if known.folder == "stable-diffusion-v1-5")
    unet, vae = (
        type(part).from_config(part.config)
        for part in (
            without_weights(UNet2DConditionModel, configs, "unet"), without_weights(AutoencoderKL, configs, "vae"),
        )
    )  # fmt: skip
    said = json.loads((configs / "text_encoder" / "config.json").read_text("utf-8"))
    tokens = _tokenizer()
    said |= {name: getattr(tokens, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return _pipeline(unet, vae, CLIPTextModel(CLIPTextConfig(**said)))


def _pipeline(unet: UNet2DConditionModel, vae: AutoencoderKL, text: CLIPTextModel) -> StableDiffusionPipeline:
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text.eval(), tokenizer=_tokenizer(), unet=unet.eval(), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _tokenizer() -> CLIPTokenizer:
    """The miniature's: any text, in more tokens; padded to 77."""
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = _TOKENS
    return tokenizer
