"""ImageReward (Xu et al. 2023, arXiv 2304.05977): BLIP with a regression head, on transformers' own BLIP parts."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from spin.core.errors import ArtifactError
from spin.evaluate.mlp import linear_mlp
from spin.evaluate.preparing import round_crop_then_rgb
from spin.evaluate.scorer import DEFAULT, Judgement, Options, Scorer
from spin.evaluate.weights import load_into, under

_LONGEST_PROMPT: Final = 35  # tokens; shorter prompts are padded to it, the padding masked
_MEAN: Final = 0.16717362830052426  # of the head's output over the authors' training set
_STD: Final = 1.0333394966054072
_VISION_NAMES: Final = (  # the reference's (timm's) names of the vision tower, and transformers'
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.norm([12])\.", r".layer_norm\1."),
)


class ImageReward(Scorer):
    """A reward with mean 0 and standard deviation 1 over the authors' data; about 0 to 1.2 on SD-1.5's pictures.

        score = (mlp(h) - 0.16717362830052426) / 1.0333394966054072

    where h is the text encoder's first output, which looks at the picture by cross-attention.

    Args:
        text_config: the checkpoint's med_config.json.
        vision_config: image_size, patch_size, embed_dim, depth, num_heads and layer_norm_eps of the vision tower.
        state: the whole state dict of ImageReward.pt.
        vocabulary: BERT's vocabulary, token to id; [DEC] and [ENC] follow as the last two.
    """

    name = "image_reward"

    def __init__(
        self, text_config: Mapping[str, Any], vision_config: Mapping[str, Any], state: Mapping[str, Tensor],
        vocabulary: Mapping[str, int], options: Options = DEFAULT,
    ) -> None:  # fmt: skip
        super().__init__(round_crop_then_rgb, options)
        vision = {vision_name(key): value for key, value in under(state, "blip.visual_encoder.").items()}
        text = {key: v for key, v in under(state, "blip.text_encoder.").items() if not key.endswith("position_ids")}
        head = under(state, "mlp.layers.")
        self.vision = load_into(vision_model(vision_config), vision, self.name).to(self.device, self.dtype)
        encoder = load_into(text_model(text_config, vision_config), text, self.name)
        self.text_encoder = encoder.to(self.device, self.dtype)
        self.head: nn.Module = load_into(linear_mlp(head), head, self.name).to(self.device)
        self.tokenizer = _tokenizer(vocabulary)

    @torch.inference_mode()
    def judge(self, pixels: Tensor, prompts: Sequence[str]) -> Judgement:
        images = self.vision(pixel_values=pixels.to(self.device, self.dtype)).last_hidden_state
        tokens = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=_LONGEST_PROMPT, return_tensors="pt"
        ).to(self.device)
        hidden = self.text_encoder(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            encoder_hidden_states=images,
            encoder_attention_mask=torch.ones(images.shape[:2], dtype=torch.long, device=self.device),
            is_decoder=False,
        ).last_hidden_state
        return Judgement(((self.head(hidden[:, 0].float()).squeeze(1) - _MEAN) / _STD).cpu())


def read_vocabulary(path: Path) -> dict[str, int]:
    """BERT's vocab.txt: a token a line; some tokens hold characters that `splitlines` would split at."""
    try:
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"cannot be read: {error}", where=str(path), fix="fetch the judges' files again") from error
    return {token.rstrip("\r"): index for index, token in enumerate(lines)}


def vision_name(key: str) -> str:
    """transformers' name of a weight of the vision tower, from the reference's."""
    for pattern, name in _VISION_NAMES:
        key = re.sub(pattern, name, key)
    return key


def vision_model(config: Mapping[str, Any]) -> BlipVisionModel:
    """BLIP's vision tower with random weights, from a config in timm's terms."""
    return BlipVisionModel(
        BlipVisionConfig(
            hidden_size=config["embed_dim"],
            intermediate_size=int(config["embed_dim"] * config.get("mlp_ratio", 4)),
            num_hidden_layers=config["depth"],
            num_attention_heads=config["num_heads"],
            image_size=config["image_size"],
            patch_size=config["patch_size"],
            layer_norm_eps=config["layer_norm_eps"],
        )
    )


def text_model(config: Mapping[str, Any], vision_config: Mapping[str, Any]) -> BlipTextModel:
    """Cross-attention exists only where `is_decoder` is set; the call unsets it, for attention in both directions."""
    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "max_position_embeddings", "hidden_act", "layer_norm_eps", "pad_token_id",
    )  # fmt: skip
    values = {name: config[name] for name in names if name in config}
    special = {"bos_token_id": config["vocab_size"] - 2, "sep_token_id": None, "eos_token_id": None}
    wide = BlipTextConfig(**values, **special, encoder_hidden_size=vision_config["embed_dim"], is_decoder=True)
    return BlipTextModel(wide, add_pooling_layer=False)


def _tokenizer(vocabulary: Mapping[str, int]) -> BertTokenizer:
    tokenizer = BertTokenizer(vocab=dict(vocabulary))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_tokens(["[ENC]"], special_tokens=True)
    return tokenizer
