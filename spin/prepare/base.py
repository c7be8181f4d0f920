"""Finds the base model: the packaged miniature, a local folder, or a model on the hub. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from spin.core.errors import ConfigError
from spin.core.safety import PARTS
from spin.diffusion.families.registry import check_model, family_of
from spin.miniature.packaged import packaged_pipeline_path

SECOND_COPIES: Final = ("*.fp16*", "*non_ema*")  # of the same weights; those of SD3's T5 are model.fp16-00001-of-00002
_FILES: Final = ("*.json", "*.txt", "*.model", "*.safetensors")


def resolve_base(name: str) -> Path:
    """Folder of a base model: the packaged miniature, a local folder, or a hub id (downloaded once)."""
    folder = local_base(name) or _download(name)
    check_model(folder)
    return folder.absolute()


def local_base(name: str) -> Path | None:
    """The folder of a base model that is on this machine; None for a hub id that was never downloaded."""
    return local_folder(name) or _whole_in_cache(name)


def local_folder(name: str) -> Path | None:
    """The packaged miniature, or a folder; None for what only the hub can have."""
    if name == "miniature":
        return packaged_pipeline_path()
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else None


def checker_folder(name: str) -> Path:
    """Folder of a model that has diffusers' safety checker, of the hub's only that; or of one that lacks it."""
    if (folder := local_folder(name)) is not None:
        return folder
    with _from_hub(where=f"safety.model: {name}", fix="name a folder with safety_checker and feature_extractor"):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=_patterns(PARTS)))


def patterns_of(folder: Path) -> list[str]:
    """What of a hub's model is downloaded."""
    return ["model_index.json", *_patterns(family_of(folder).parts)]


def _patterns(parts: tuple[str, ...]) -> list[str]:
    return [f"{part}/{file}" for part in parts for file in _FILES]


def _whole_in_cache(name: str) -> Path | None:
    """A hub's model that was downloaded before; an interrupted download is gone on with."""
    try:
        with _from_hub(where=name, fix="download it"):
            from huggingface_hub import hf_hub_download

            folder = Path(hf_hub_download(name, "model_index.json", local_files_only=True)).parent
            check_model(folder)
    except ConfigError:
        return None
    return folder


def _download(name: str) -> Path:
    """Of the hub's files those that its family works with; a class that is not supported is refused by its index."""
    with _from_hub(where=f"model.base: {name}", fix="name a local diffusers folder, or `miniature`"):
        from huggingface_hub import hf_hub_download, snapshot_download

        patterns = patterns_of(Path(hf_hub_download(name, "model_index.json")).parent)
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=list(SECOND_COPIES)))


@contextmanager
def _from_hub(*, where: str, fix: str) -> Iterator[None]:
    """What the hub's library raises, in one line; it takes 0.15 s to import, paid only where a hub id is named."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        problem = f"no such folder, and the hub does not give it: {str(error).splitlines()[0]}"
        raise ConfigError(problem, where=where, fix=fix) from error
