"""Which files the judges' real checkpoints are, pinned; no torch, so that a plan can name what scores are made with.

A file is pinned by its repository's revision, and by sha256 where a published one is known (Aesthetic, its CLIP, HPS
v2.1). A large file without one is held against the sha256 by which the hub's cache names it. A folder of your own
(`evaluation.scorers_folder`) holds the same files as FOLDER/<judge>/<name>; other weights than the pinned ones are
taken where FOLDER/sha256.json lists them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from spin.core.errors import ArtifactError, ConfigError
from spin.core.plan import identity_hash
from spin.core.store import hash_file

HPS_FILES: Final[Mapping[str, str]] = {"v2.0": "HPS_v2_compressed.pt", "v2.1": "HPS_v2.1_compressed.pt"}
# Configs that only a folder of your own may have: widths and layers of other weights than the published.
BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    "hpsv2": ("open_clip_config.json",), "image_reward": ("vit_config.json",),
}  # fmt: skip
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightFile:
    """A file of a judge: out of a hub repository at one revision, or behind a URL."""

    judge: str
    name: str
    repository: str
    revision: str
    sha256: str | None = None
    url: str | None = None  # where it is in no repository of the hub

    @property
    def place(self) -> str:
        """Its path in a folder of your own."""
        return f"{self.judge}/{self.name}"


_CLIP: Final = ("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41")
_PICKSCORE: Final = ("yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800")
_HPSV2: Final = ("xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a")
_IMAGE_REWARD: Final = ("THUDM/ImageReward", "5736be03b2652728fb87788c9797b0570450ab72")
_BERT: Final = ("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")
_LAION: Final = ("christophschuhmann/improved-aesthetic-predictor", "main")

_FILES: Final = (
    WeightFile("pickscore", "config.json", *_PICKSCORE),
    WeightFile("pickscore", "model.safetensors", *_PICKSCORE),
    WeightFile("image_reward", "ImageReward.pt", *_IMAGE_REWARD),
    WeightFile("image_reward", "med_config.json", *_IMAGE_REWARD),
    WeightFile("image_reward", "vocab.txt", *_BERT),
    WeightFile(
        "aesthetic", "config.json", *_CLIP, "8a09b467700c58138c29d53c605b34ebc69beaadd13274a8a2af8ad2c2f4032a"
    ),
    WeightFile(
        "aesthetic", "model.safetensors", *_CLIP, "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"
    ),
    WeightFile(
        "aesthetic", "sac+logos+ava1-l14-linearMSE.pth", *_LAION,
        "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
        f"https://raw.githubusercontent.com/{_LAION[0]}/{_LAION[1]}/sac%2Blogos%2Bava1-l14-linearMSE.pth",
    ),
)  # fmt: skip
_HPS_SHA256: Final[Mapping[str, str]] = {"v2.1": "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837"}


def weight_files(judge: str, *, hps_version: str = "v2.0") -> tuple[WeightFile, ...]:
    """Every file of a judge; of HPSv2 the one of its version."""
    if judge == "hpsv2":
        return (WeightFile("hpsv2", HPS_FILES[hps_version], *_HPSV2, _HPS_SHA256.get(hps_version)),)
    return tuple(file for file in _FILES if file.judge == judge)


def pinned_sha256(file: WeightFile, folder: Path | None) -> str | None:
    """What a file must hash to; FOLDER/sha256.json goes before the table here."""
    return _own_pins(folder).get(file.place, file.sha256) if folder is not None else file.sha256


def judge_version(judge: str, folder: Path | None, *, hps_version: str = "v2.0") -> str:
    """16 hex digits that stand for a judge's weights in every score: of the pins, or of the files in `folder`."""
    files = weight_files(judge, hps_version=hps_version)
    if folder is None:
        return identity_hash(*(f"{file.name} {file.sha256 or file.revision}" for file in files))[:16]
    known = [f"{file.name} {pinned_sha256(file, folder) or _hash(folder, file)}" for file in files]
    beside = [path for name in BESIDE.get(judge, ()) if (path := folder / judge / name).exists()]
    return identity_hash(*known, *(f"{path.name} {hash_file(path)}" for path in beside))[:16]


def _hash(folder: Path, file: WeightFile) -> str:
    path = folder / file.place
    try:
        state = path.stat()
    except OSError as error:
        raise ArtifactError(
            "weights are missing", where=str(path), fix=f"put {file.repository}'s {file.name} there"
        ) from error
    return _hash_once(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_once(path: Path, _size: int, _changed: int) -> str:
    """4 GB take seconds, and a plan asks again for each model."""
    return hash_file(path)


def _own_pins(folder: Path) -> Mapping[str, str]:
    path = folder / "sha256.json"
    if not folder.is_dir():
        raise ConfigError("no such folder", where=str(folder), fix="set evaluation.scorers_folder, or null for the hub")
    if not path.exists():
        return {}
    try:
        pins = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="write {file: sha256} as JSON") from error
    for name, value in pins.items() if isinstance(pins, dict) else [("", pins)]:
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise ConfigError(f"{name!r} has no sha256 of 64 hex digits", where=str(path), fix="see sha256sum")
    return pins
