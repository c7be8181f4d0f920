"""The four published judges at full size: our panel against one picture at a time, on the same weights, in one run.

    python -m benchmarks.scoring                      # about half an hour on two cores, 14 GB of memory
    python -m benchmarks.scoring --device cuda --images 64 --batch 32

The architectures are the real ones, their weights random: the time does not depend on them. Each round runs every way
once, in turn. Pictures are 512 x 512, five of each prompt, as in the paper's protocol. A way counts only if its
scores are the baseline's: the largest differences stand below.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip

import argparse
import io
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from spin.core.environment import versions
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
_PROMPTS: Final = ("a red fox in the snow", "a castle on a hill at dawn, oil painting")
_OF_A_PROMPT: Final = 5
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
    _forget(found, batch_size=1)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    pictures, prompts = _pictures(asked.images)
    ways: dict[str, Callable[[], np.ndarray]] = {}
    # The small ones first: while a judge is built its weights are there twice.
    built = {name: judges(asked.device, dtype) for name, dtype in reversed(_DTYPES.items())}
    for name in _DTYPES:
        found, panel = built[name], Panel(built[name], asked.batch)
        ways[f"one at a time, {name}"] = lambda found=found: one_at_a_time(found, pictures, prompts)
        ways[f"panel, {name}"] = lambda panel=panel: together(panel, pictures, prompts)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, np.ndarray] = {}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            scores[name] = way()
            seconds[name].append(time.perf_counter() - start)
    _tell(seconds, scores, asked.images)
    if asked.json:
        noted = {**vars(asked), "json": str(asked.json), "seconds": seconds, "load": os.getloadavg(), **versions()}
        asked.json.write_text(json.dumps(noted, indent=1, default=str))


def _tell(seconds: dict[str, list[float]], scores: dict[str, np.ndarray], images: int) -> None:
    baseline = next(iter(seconds))
    names = ("pickscore", "hpsv2", "image_reward", "aesthetic")
    print(f"| {images} pictures, four judges | s an image | times N4 | largest difference: {', '.join(names)} |")
    print("|---|---|---|---|")
    for name, rounds in seconds.items():
        ratios = np.array(seconds[baseline]) / np.array(rounds)
        apart = np.abs(scores[name] - scores[baseline]).max(axis=0)
        spread = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        print(f"| {name} | {np.median(rounds) / images:.2f} | {spread} | {', '.join(f'{a:.1e}' for a in apart)} |")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def _pictures(count: int) -> tuple[list[bytes], list[str]]:
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((512, 512), Image.Resampling.BICUBIC).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    return pictures, [_PROMPTS[i // _OF_A_PROMPT % len(_PROMPTS)] for i in range(count)]


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
    main()
