"""Finds the base model: the packaged miniature, a local folder, or a model on the hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from spin.core.errors import ConfigError
from spin.diffusion.checkpoint import check_model
from spin.miniature.pipeline import packaged_pipeline_path


def resolve_base(name: str) -> Path:
    """Folder of a base model: the packaged miniature, a local folder, or a hub id (downloaded once)."""
    if name == "miniature":
        return packaged_pipeline_path()
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _download(name)
    check_model(folder)
    return folder.absolute()


def _download(name: str) -> Path:
    patterns = ["*.json", "*.txt", "*.model", "unet/*.safetensors", "vae/*.safetensors", "text_encoder/*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*.fp16.*", "*non_ema*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"no such folder, and the hub does not give it: {str(error).splitlines()[0]}",
            where=f"model.base: {name}",
            fix="name a local diffusers folder, or `miniature`",
        ) from error
