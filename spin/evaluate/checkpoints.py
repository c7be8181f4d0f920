"""Builds the judges from their real checkpoints: the hub's, at pinned revisions, or those in a folder of your own."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers import CLIPVisionConfig

from spin.core.errors import ArtifactError
from spin.evaluate.aesthetic import Aesthetic
from spin.evaluate.hpsv2 import HPSv2
from spin.evaluate.image_reward import ImageReward, read_vocabulary
from spin.evaluate.pickscore import PickScore
from spin.evaluate.pins import WeightFile, judge_version, pinned_sha256, weight_files
from spin.evaluate.scorer import DEFAULT, Options, Scorer
from spin.evaluate.weights import load_state, read_json, require_sha256

# BLIP's ViT-L/16 as the reference builds it; timm's epsilon, not transformers' default.
BLIP_VISION: Final = {
    "image_size": 224, "patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16, "layer_norm_eps": 1e-6,
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """The files of one judge."""

    judge: str
    folder: Path | None = None  # None: the hub
    hps_version: str = "v2.0"
    hps_antialias: bool = True

    def build(self, options: Options = DEFAULT) -> Scorer:
        """The judge with its real weights; every score names their digest."""
        options = replace(options, version=judge_version(self.judge, self.folder, hps_version=self.hps_version))
        return _BUILDERS[self.judge](self, options)

    def fetch(self, name: str) -> Path:
        """A file of the judge by its name, downloaded where it is not here yet; what is pinned is verified."""
        file = self._file(name)
        path = fetch(file, self.folder)
        require_sha256(path, pinned_sha256(file, self.folder) or _hub_sha256(path))
        return path

    def json(self, name: str) -> dict[str, Any]:
        return read_json(self.fetch(name), fix="fetch it again")

    def json_beside(self, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
        """A config of pins.BESIDE, where the folder has it."""
        path = None if self.folder is None else self.folder / self.judge / name
        return read_json(path, fix="fetch it again") if path is not None and path.exists() else default

    def state(self, name: str) -> dict[str, Any]:
        return load_state(self.fetch(name))

    def _file(self, name: str) -> WeightFile:
        return next(f for f in weight_files(self.judge, hps_version=self.hps_version) if f.name == name)


def fetch(file: WeightFile, folder: Path | None) -> Path:
    """The file in `folder`, in the hub's cache, or in torch's, downloaded where it is not there yet."""
    if folder is not None:
        return folder / file.place
    try:
        if file.url is not None:
            return _from_url(file, file.url)
        return _from_hub(file)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(
            f"cannot be downloaded: {reason}", where=f"{file.repository}/{file.name}",
            fix=f"go online once, or put it at FOLDER/{file.place} and set evaluation.scorers_folder=FOLDER",
        ) from error  # fmt: skip


def _from_hub(file: WeightFile) -> Path:
    try:
        return Path(hf_hub_download(file.repository, file.name, revision=file.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        # Our own line tells what failed, and how to do without.
        logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
        return Path(hf_hub_download(file.repository, file.name, revision=file.revision))


def _from_url(file: WeightFile, url: str) -> Path:
    target = Path(torch.hub.get_dir()) / "checkpoints" / file.name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside it and moved; refused where it does not hash to the pin.
        torch.hub.download_url_to_file(url, str(target), hash_prefix=file.sha256, progress=False)
    return target


def _hub_sha256(path: Path) -> str | None:
    """The hub's cache names a large file by its sha256, as the hub states it."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _pickscore(files: Checkpoint, options: Options) -> Scorer:
    return PickScore(files.json("config.json"), files.state("model.safetensors"), options)


def _hpsv2(files: Checkpoint, options: Options) -> Scorer:
    name = weight_files("hpsv2", hps_version=files.hps_version)[0].name
    published = open_clip.get_model_config("ViT-H-14")
    assert published is not None
    config = files.json_beside("open_clip_config.json", published)
    state = files.state(name)
    if "state_dict" not in state:
        raise ArtifactError("holds no state_dict", where=str(files.fetch(name)), fix="take HPSv2's own checkpoint")
    return HPSv2(config, state["state_dict"], options, hps_version=files.hps_version, hps_antialias=files.hps_antialias)


def _image_reward(files: Checkpoint, options: Options) -> Scorer:
    vision = files.json_beside("vit_config.json", BLIP_VISION)
    vocabulary = read_vocabulary(files.fetch("vocab.txt"))
    return ImageReward(files.json("med_config.json"), vision, files.state("ImageReward.pt"), vocabulary, options)


def _aesthetic(files: Checkpoint, options: Options) -> Scorer:
    config = CLIPVisionConfig(**files.json("config.json")["vision_config"])
    head = files.state("sac+logos+ava1-l14-linearMSE.pth")
    return Aesthetic(config, files.state("model.safetensors"), head, options)


_BUILDERS: Final[Mapping[str, Callable[[Checkpoint, Options], Scorer]]] = {
    "pickscore": _pickscore, "hpsv2": _hpsv2, "image_reward": _image_reward, "aesthetic": _aesthetic,
}  # fmt: skip
