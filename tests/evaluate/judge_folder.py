"""The published judges in small, in the very files of the real ones: a folder for evaluation.scorers_folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from spin.core.store import hash_file
from spin.evaluate.aesthetic import transformers_names, vision_config
from tests.evaluate.golden_scorers import FOLDER, goldens

HEAD = "sac+logos+ava1-l14-linearMSE.pth"


def write_judges(folder: Path) -> Path:
    """Every file under its own name; sha256.json lists them, as they are not the pinned ones."""
    for judge in ("pickscore", "hpsv2", "image_reward", "aesthetic"):
        (folder / judge).mkdir(parents=True, exist_ok=True)
    golden = goldens()
    shutil.copy(FOLDER / "pickscore" / "config.json", folder / "pickscore")
    save_file(golden.state("pickscore", "model"), folder / "pickscore" / "model.safetensors")
    for version in ("", ".1"):
        state = golden.state("hpsv2", "state_dict")
        torch.save({"state_dict": state}, folder / "hpsv2" / f"HPS_v2{version}_compressed.pt")
    shutil.copy(FOLDER / "hpsv2" / "open_clip_config.json", folder / "hpsv2")
    torch.save(golden.state("imagereward", "ImageReward"), folder / "image_reward" / "ImageReward.pt")
    for name in ("med_config.json", "vit_config.json", "vocab.txt"):
        shutil.copy(FOLDER / "imagereward" / name, folder / "image_reward")
    config = vision_config(golden.config("aesthetic", "vision_config")).to_dict()
    _write_json(folder / "aesthetic" / "config.json", {"vision_config": config})
    tower = transformers_names(golden.state("aesthetic", "clip_visual_openai"))
    save_file(tower, folder / "aesthetic" / "model.safetensors")
    torch.save(golden.state("aesthetic", "mlp"), folder / "aesthetic" / HEAD)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    _write_json(folder / "sha256.json", {path.relative_to(folder).as_posix(): hash_file(path) for path in files})
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")
