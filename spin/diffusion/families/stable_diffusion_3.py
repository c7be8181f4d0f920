"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): a transformer over a rectified flow, two CLIP encoders and T5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from spin.diffusion.families.family import Configs, Family, Given, Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

_T5_TOKENS: Final = 256  # the pipeline's max_sequence_length


class StableDiffusion3(Family):
    pipeline = "StableDiffusion3Pipeline"
    denoiser = "transformer"
    denoiser_class = "SD3Transformer2DModel"
    text_parts = (
        "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3",
    )  # fmt: skip
    optional = ("text_encoder_3", "tokenizer_3")  # 19 GB of T5 in float32; the pipeline puts zeros in its place
    attention = (
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
        "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
    )  # fmt: skip
    position_grid = "pos_embed_max_size"
    flow = True

    def given_shapes(self, configs: Configs) -> Mapping[str, Shape]:
        first, second = configs["text_encoder"], configs["text_encoder_2"]
        width = configs.get("text_encoder_3", {}).get("d_model", configs["transformer"]["joint_attention_dim"])
        return {
            "embedding": (first["max_position_embeddings"] + _T5_TOKENS, width),
            "pooled": (first["projection_dim"] + second["projection_dim"],),
        }

    def wanted_widths(self, configs: Configs) -> Mapping[str, int]:
        network = configs["transformer"]
        return {"embedding": network["joint_attention_dim"], "pooled": network["pooled_projection_dim"]}

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Given:
        embedding, _, pooled, _ = pipeline.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=False, max_sequence_length=_T5_TOKENS,
            device=pipeline.text_encoder.device,
        )  # fmt: skip
        return {"embedding": embedding, "pooled": pooled}

    def predict(self, network: nn.Module, noisy: Tensor, time: Tensor, given: Given) -> Tensor:
        said: Tensor = network(
            hidden_states=noisy, timestep=time.expand(len(noisy)), encoder_hidden_states=given["embedding"],
            pooled_projections=given["pooled"], return_dict=False,
        )[0]  # fmt: skip
        return said


FAMILY = StableDiffusion3()
