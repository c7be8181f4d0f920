"""A tiny real pipeline of every family, untrained; text and pictures go through stock classes of diffusers.

And ways to change one: a value of its configs, weights of an adapter.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from spin.miniature.tokenizer import build_tokenizer, world_words

SIDE = 8  # latents of 8 x 8, pictures of 64 x 64
CHANNELS = 4


def stable_diffusion_v() -> DiffusionPipeline:
    """SD-2.x: the UNet predicts v."""
    tokenizer = build_tokenizer()
    return StableDiffusionPipeline(
        vae=_autoencoder(scaling_factor=0.18215), text_encoder=_clip(tokenizer, 32), tokenizer=tokenizer,
        unet=_unet(cross_attention_dim=32),
        scheduler=DDIMScheduler(prediction_type="v_prediction", **_SCHEDULE), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl(*, zeros: bool = True) -> DiffusionPipeline:
    """Two text encoders of different widths; guidance compares with zeros, or with the empty prompt."""
    tokenizer = build_tokenizer()
    second = CLIPTextModelWithProjection(_clip_config(tokenizer, 48, projection=16))
    unet = _unet(
        cross_attention_dim=80, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=_autoencoder(scaling_factor=0.13025), text_encoder=_clip(tokenizer, 32), text_encoder_2=second,
        tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet,
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **_SCHEDULE),
        force_zeros_for_empty_prompt=zeros, add_watermarker=False,
    )  # fmt: skip


def stable_diffusion_3(*, t5: bool = True) -> DiffusionPipeline:
    """A transformer over a flow; two CLIP encoders, and T5 or nothing in its place."""
    tokenizer = build_tokenizer()
    first, second = (CLIPTextModelWithProjection(_clip_config(tokenizer, w, projection=w)) for w in (32, 16))
    transformer = SD3Transformer2DModel(
        sample_size=SIDE, patch_size=2, in_channels=CHANNELS, out_channels=CHANNELS, num_layers=2,
        attention_head_dim=8, num_attention_heads=4, joint_attention_dim=64, caption_projection_dim=32,
        pooled_projection_dim=48, pos_embed_max_size=SIDE,
    )  # fmt: skip
    encoder = T5EncoderModel(T5Config(vocab_size=200, d_model=64, d_kv=8, d_ff=64, num_layers=1, num_heads=4))
    return StableDiffusion3Pipeline(
        vae=_autoencoder(scaling_factor=1.5305, shift_factor=0.0609), text_encoder=first, text_encoder_2=second,
        text_encoder_3=encoder if t5 else None, tokenizer=tokenizer, tokenizer_2=tokenizer,
        tokenizer_3=_t5_tokenizer() if t5 else None, transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd-v": stable_diffusion_v,
    "sdxl": stable_diffusion_xl,
    "sdxl-empty": lambda: stable_diffusion_xl(zeros=False),
    "sd3": stable_diffusion_3,
    "sd3-without-t5": lambda: stable_diffusion_3(t5=False),
}

_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build(kind: str) -> DiffusionPipeline:
    """The same weights at every call."""
    torch.manual_seed(0)
    pipeline = BUILDERS[kind]()
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def change(config: Path, **values: Any) -> None:
    """Other values in a config file of a saved pipeline."""
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), **values}), "utf-8")


def teach(network: torch.nn.Module, *, seed: int = 0) -> None:
    """Put something into an adapter's B, which is 0 at first: A has no gradient there."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if ".lora_B." in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))


def _unet(**values: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE, in_channels=CHANNELS, out_channels=CHANNELS, layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32), attention_head_dim=4, **values,
    )  # fmt: skip


def _autoencoder(**values: Any) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=8, latent_channels=CHANNELS,
        sample_size=8 * SIDE, **values,
    )  # fmt: skip


def _clip(tokenizer: CLIPTokenizer, width: int) -> CLIPTextModel:
    return CLIPTextModel(_clip_config(tokenizer, width, projection=width))


def _clip_config(tokenizer: CLIPTokenizer, width: int, *, projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length, projection_dim=projection,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def _t5_tokenizer() -> T5Tokenizer:
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *(f"\u2581{word}" for word in world_words())]
    return T5Tokenizer(vocab=[(piece, 0.0) for piece in pieces], extra_ids=0)
