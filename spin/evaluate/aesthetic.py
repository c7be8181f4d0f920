"""LAION's aesthetic predictor: five linear layers on the unit image vector of OpenAI's CLIP ViT-L/14."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from spin.evaluate.mlp import linear_mlp
from spin.evaluate.preparing import round_crop_then_rgb
from spin.evaluate.scorer import DEFAULT, Judgement, Options, Scorer
from spin.evaluate.weights import load_into, under

_LAYER_PARTS: Final = (
    ("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
)  # fmt: skip


class Aesthetic(Scorer):
    """Predicted rating on a scale of 1 to 10; 5 to 6 on SD-1.5's pictures. The prompt is not looked at.

        score = mlp(e / |e|),  e = image vector; the layers have no activation between them

    Args:
        config: of the image tower; OpenAI's have quick_gelu.
        visual: weights of the tower, in OpenAI's names (`visual.*`) or transformers'.
        head: weights of the linear layers (`layers.0.weight`, ...).
    """

    name = "aesthetic"

    def __init__(
        self, config: CLIPVisionConfig, visual: Mapping[str, Tensor], head: Mapping[str, Tensor],
        options: Options = DEFAULT,
    ) -> None:  # fmt: skip
        super().__init__(round_crop_then_rgb, options)
        names = transformers_names(visual) if "visual.proj" in visual else _vision_only(visual)
        model = CLIPVisionModelWithProjection(config)
        self.tower = load_into(model, names, self.name).to(self.device, self.dtype)
        layers = under(head, "layers.")
        self.head: nn.Module = load_into(linear_mlp(layers), layers, self.name).to(self.device)

    @torch.inference_mode()
    def judge(self, pixels: Tensor, prompts: Sequence[str]) -> Judgement:  # noqa: ARG002
        found = self.tower(pixel_values=pixels.to(self.device, self.dtype)).image_embeds
        images = normalize(found.float(), dim=1)
        return Judgement(self.head(images).squeeze(1).cpu(), images.cpu())


def transformers_names(visual: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's (and open_clip's) names of a ViT's weights to those of CLIPVisionModelWithProjection."""
    model = "vision_model."
    names = {
        f"{model}embeddings.class_embedding": visual["visual.class_embedding"],
        f"{model}embeddings.patch_embedding.weight": visual["visual.conv1.weight"],
        f"{model}embeddings.position_embedding.weight": visual["visual.positional_embedding"],
        "visual_projection.weight": visual["visual.proj"].T.contiguous(),
    }
    for part in ("weight", "bias"):
        names[f"{model}pre_layrnorm.{part}"] = visual[f"visual.ln_pre.{part}"]  # transformers' own spelling
        names[f"{model}post_layernorm.{part}"] = visual[f"visual.ln_post.{part}"]
        layer = 0
        while (before := f"visual.transformer.resblocks.{layer}.") + "ln_1.weight" in visual:
            after = f"{model}encoder.layers.{layer}."
            names |= {f"{after}{new}.{part}": visual[f"{before}{old}.{part}"] for old, new in _LAYER_PARTS}
            fused = visual[f"{before}attn.in_proj_{part}"].chunk(3)
            names |= {f"{after}self_attn.{x}_proj.{part}": v.contiguous() for x, v in zip("qkv", fused, strict=True)}
            layer += 1
    return names


def _vision_only(whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image side of a whole CLIP checkpoint in transformers' names."""
    kept = ("vision_model.", "visual_projection.")
    return {key: v for key, v in whole.items() if key.startswith(kept) and not key.endswith(".position_ids")}


def vision_config(config: Mapping[str, Any]) -> CLIPVisionConfig:
    """From image_size, patch_size, width, layers, heads, embed_dim, ... in open_clip's terms."""
    return CLIPVisionConfig(
        hidden_size=config["width"],
        intermediate_size=int(config["width"] * config.get("mlp_ratio", 4)),
        num_hidden_layers=config["layers"],
        num_attention_heads=config["heads"],
        image_size=config["image_size"],
        patch_size=config["patch_size"],
        projection_dim=config["embed_dim"],
        hidden_act="quick_gelu" if config.get("quick_gelu", True) else "gelu",
        layer_norm_eps=config.get("layer_norm_eps", 1e-5),
    )
