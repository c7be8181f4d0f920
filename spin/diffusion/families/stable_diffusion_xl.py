"""Stable Diffusion XL (arXiv 2307.01952): a UNet, two CLIP text encoders, pooled text and sizes as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from spin.diffusion.families.family import Configs, Family, Given, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_SIZES: Final = 6  # original height and width, top and left of the crop, target height and width


class StableDiffusionXL(Family):
    pipeline = "StableDiffusionXLPipeline"
    denoiser = "unet"
    denoiser_class = "UNet2DConditionModel"
    text_parts = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    attention = ("to_q", "to_k", "to_v", "to_out.0")
    kohya = "sgm"
    pixels_per_latent = 8

    def given_shapes(self, configs: Configs) -> Mapping[str, Shape]:
        first, second = configs["text_encoder"], configs["text_encoder_2"]
        return {
            "embedding": (first["max_position_embeddings"], first["hidden_size"] + second["hidden_size"]),
            "pooled": (second["projection_dim"],),
        }

    def wanted_widths(self, configs: Configs) -> Mapping[str, int]:
        unet = configs["unet"]
        pooled = unet["projection_class_embeddings_input_dim"] - _SIZES * unet["addition_time_embed_dim"]
        return {"embedding": unet["cross_attention_dim"], "pooled": pooled}

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Given:
        embedding, _, pooled, _ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
        return {"embedding": embedding, "pooled": pooled}

    def encode_nothing(self, pipeline: Any) -> Given:
        """Zeros where the model was trained with them, as SDXL's base was (`force_zeros_for_empty_prompt`)."""
        _, embedding, _, pooled = pipeline.encode_prompt("", do_classifier_free_guidance=True)
        return {"embedding": embedding, "pooled": pooled}

    def predict(self, network: nn.Module, noisy: Tensor, time: Tensor, given: Given) -> Tensor:
        """The sizes are those that the pipeline asks for: the whole picture, not cropped.

        Both sides of a pair are asked under the condition that the model will draw under, as Diffusion-DPO does;
        where a real picture was cropped to fit, no number tells of it.
        """
        height, width = (self.pixels_per_latent * size for size in noisy.shape[-2:])
        sizes = _whole_picture(height, width, noisy.dtype, noisy.device).expand(len(noisy), -1)
        added = {"text_embeds": given["pooled"], "time_ids": sizes}
        said: Tensor = network(
            noisy, time, encoder_hidden_states=given["embedding"], added_cond_kwargs=added, return_dict=False
        )[0]
        return said


@lru_cache(maxsize=512)
def _whole_picture(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(6,) numbers that say it is not cropped; made once for each size, because the device waits for it."""
    import torch

    return torch.tensor([height, width, 0, 0, height, width], dtype=dtype, device=device)


FAMILY = StableDiffusionXL()
