"""The four published judges at full size: our panel against one picture at a time, on the same weights, in one run.

    python -m benchmarks.scoring cpu        # about twenty minutes on two cores, 20 GB of memory

The architectures are the real ones, their weights random: the time does not depend on them. Each round runs every way
once, in turn. Pictures are 512 x 512, five of each prompt, as in the paper's protocol. A way counts only if its
scores are the baseline's: the largest differences stand below.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from benchmarks.command import measure
from benchmarks.measuring import Check, Measured, Way, interleave, machine, matmul
from benchmarks.profiles import Profile
from benchmarks.world import pictures
from spin.diffusion.remembering import Remembered
from spin.evaluate import image_reward
from spin.evaluate.aesthetic import Aesthetic
from spin.evaluate.checkpoints import BLIP_VISION
from spin.evaluate.hpsv2 import HPSv2
from spin.evaluate.image_reward import ImageReward
from spin.evaluate.mlp import linear_mlp
from spin.evaluate.panel import Panel
from spin.evaluate.pickscore import PickScore
from spin.evaluate.scorer import Options, Scorer

_TEXT_H: Final = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_VISION_H: Final = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 14,
}  # fmt: skip
_VISION_L: Final = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 14, "projection_dim": 768, "hidden_act": "quick_gelu",
}  # fmt: skip
_BERT: Final = {
    "vocab_size": 30524, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 512, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}  # fmt: skip
_HEAD: Final = ((768, 1024), (1024, 128), (128, 64), (64, 16), (16, 1))
_HEAD_LAYERS: Final = (0, 2, 4, 6, 7)
_VOCABULARY: Final = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fox"])}
_PROMPT: Final = "a red fox in the snow, oil painting number {}"
_OF_A_PROMPT: Final = 5
_ALLOWED: Final = {"PickScore": 1e-5, "HPSv2": 1e-6, "ImageReward": 1e-5, "Aesthetic": 1e-5}
_ALLOWED_HALF: Final = {"PickScore": 0.1, "HPSv2": 5e-3, "ImageReward": 5e-3, "Aesthetic": 5e-3}
_COMPARED: Final = (
    ("ours float32", "N4 float32", False), ("ours bfloat16", "N4 bfloat16", True),
    ("ours bfloat16", "N4 float32", True),
)  # fmt: skip


def judges(device: str, dtype: torch.dtype) -> list[Scorer]:
    """The four at full size with random weights, the same for each dtype."""
    torch.manual_seed(0)
    options = Options(device, dtype)
    clip_h = {
        "text_config": {**_TEXT_H, "hidden_act": "gelu", "projection_dim": 1024},
        "vision_config": {**_VISION_H, "hidden_act": "gelu", "projection_dim": 1024}, "projection_dim": 1024,
    }  # fmt: skip
    found: list[Scorer] = [PickScore(clip_h, CLIPModel(CLIPConfig(**clip_h)).state_dict(), options)]
    config = open_clip.get_model_config("ViT-H-14")
    found.append(HPSv2(config, open_clip.create_model("ViT-H-14", pretrained=None).state_dict(), options))
    vision, text = image_reward.vision_model(BLIP_VISION), image_reward.text_model(_BERT, BLIP_VISION)
    found.append(ImageReward(_BERT, BLIP_VISION, _reference_names(vision, text), _VOCABULARY, options))
    small = CLIPVisionConfig(**_VISION_L)
    tower = CLIPVisionModelWithProjection(small).state_dict()
    found.append(Aesthetic(small, tower, _head("layers."), options))
    return found


def one_at_a_time(found: Sequence[Scorer], pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
    """N4: weights resident, each judge asked for each picture with its prompt, as the references' functions are."""
    rows = []
    for data, prompt in zip(pictures, prompts, strict=True):
        scores = []
        for judge in found:
            _forget([judge], batch_size=1)  # the references encode the prompt for every picture
            scores.append(judge.score([Image.open(io.BytesIO(data))], [prompt]).item())
        rows.append(scores)
    return np.array(rows)


def _forget(found: Sequence[Scorer], *, batch_size: int) -> None:
    """No text is known from a round before; in passes that are full."""
    for judge in found:
        if isinstance(judge, PickScore | HPSv2):
            judge.text = Remembered(judge._encode, batch_size=batch_size)


def together(panel: Panel, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
    """Ours: decoded and prepared once, batched, each prompt encoded once."""
    _forget(panel.judges, batch_size=len(set(prompts)))
    answers = panel.judge(pictures, prompts)
    return np.array([[found[judge.name].scores.item() for judge in panel.judges] for _, found, _ in answers])


def scoring(profile: Profile, _folder: Path) -> Measured:
    device, images = profile.device, profile.judged
    shown, prompts = pictures(images, 512, seed=0), [_PROMPT.format(i // _OF_A_PROMPT) for i in range(images)]
    scores: dict[str, np.ndarray] = {}

    def way(name: str, dtype: str, judge: Callable[[], np.ndarray], flops: float) -> Way:
        def run() -> None:
            scores[name] = judge()

        return Way(name, run, images, flops / images, dtype)

    ways = []
    # The small ones first: while a judge is built its weights are there twice.
    built = {dtype: judges(device, getattr(torch, dtype)) for dtype in ("bfloat16", "float32")}
    panels = {dtype: Panel(found, images) for dtype, found in built.items()}
    theirs = _flops(lambda: one_at_a_time(built["bfloat16"], shown, prompts))
    ours = _flops(lambda: together(panels["bfloat16"], shown, prompts))
    for dtype in ("float32", "bfloat16"):
        ways.append(way(f"N4 {dtype}", dtype, partial(one_at_a_time, built[dtype], shown, prompts), theirs))
        ways.append(way(f"ours {dtype}", dtype, partial(together, panels[dtype], shown, prompts), ours))
    products = [matmul(device, dtype, side=profile.side) for dtype in (torch.float32, torch.bfloat16)]
    rounds = interleave([*ways, *products], rounds=profile.rounds, device=device)
    return Measured(
        "scoring", profile.name, "", "picture", against=["N4 float32", "N4 bfloat16"], checks=_checks(scores),
        facts={"pictures": images, "of a prompt": _OF_A_PROMPT, "judges": "PickScore, HPSv2, ImageReward, Aesthetic"},
        machine=machine(device), **rounds._asdict(),
    )  # fmt: skip


def _flops(judge: Callable[[], object]) -> float:
    """Counted while it runs; with attention as plain products, for torch counts no fused one of a CPU."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            judge()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops())


def _checks(scores: Mapping[str, np.ndarray]) -> list[Check]:
    """Scores of both ways in one precision, and what half precision costs; of each judge by its own scale."""
    checks: list[Check] = []
    for ours, theirs, half in _COMPARED:
        apart = np.abs(scores[ours] - scores[theirs]).max(axis=0)
        for number, judge in enumerate(_ALLOWED):
            allowed = _ALLOWED_HALF[judge] if half else _ALLOWED[judge]
            checks.append(Check(f"{judge}: {ours} from {theirs}", float(apart[number]), allowed))
    return checks


def _head(prefix: str) -> dict[str, torch.Tensor]:
    state = {}
    for layer, (inputs, outputs) in zip(_HEAD_LAYERS, _HEAD, strict=True):
        linear = torch.nn.Linear(inputs, outputs)
        state |= {f"{layer}.weight": linear.weight.data, f"{layer}.bias": linear.bias.data}
    linear_mlp(state)  # the shapes fit
    return {f"{prefix}{key}": value for key, value in state.items()}


def _reference_names(vision: BlipVisionModel, text: BlipTextModel) -> dict[str, Any]:
    """Both towers under the names of ImageReward.pt, so that they pass through the judge's own loading."""
    state = {f"blip.text_encoder.{key}": value for key, value in text.state_dict().items()}
    back = {image_reward.vision_name(key): key for key in _timm_names(BLIP_VISION["depth"])}
    state |= {f"blip.visual_encoder.{back[key]}": value for key, value in vision.state_dict().items()}
    return state | _head("mlp.layers.")


def _timm_names(depth: int) -> list[str]:
    parts = ("attn.qkv", "attn.proj", "norm1", "norm2", "mlp.fc1", "mlp.fc2")
    blocks = [f"blocks.{i}.{part}.{kind}" for i in range(depth) for part in parts for kind in ("weight", "bias")]
    ends = [f"{part}.{kind}" for part in ("patch_embed.proj", "norm") for kind in ("weight", "bias")]
    return [*blocks, *ends, "cls_token", "pos_embed"]


if __name__ == "__main__":
    measure(scoring, __doc__)
