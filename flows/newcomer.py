"""`init`: a commented config for somebody's own folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from spin.core.config_template import commented_template
from spin.core.errors import ConfigError, DataError

_PICTURES: Final = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def write_config(directory: Path, config: Path) -> Path:
    """Write `config` for the pictures in `directory`; an existing file is never overwritten."""
    if not directory.is_dir():
        raise DataError("no such folder", where=str(directory), fix="name the folder that holds your images")
    if config.exists():
        raise ConfigError("exists already", where=str(config), fix="choose another name with --config")
    source = picture_source(directory)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", directory.resolve().name).strip("-._")[:64] or "mine"
    try:
        config.write_text(commented_template(str(directory), source=source, run_name=name), "utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write: {error.strerror}", where=str(config), fix="choose another --config"
        ) from error
    return config


def picture_source(directory: Path) -> str:
    """The data.source that fits a folder: pictures, or Parquet files."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    if any(path.suffix.lower() in _PICTURES for path in files):
        return "imagefolder"
    if any(path.suffix == ".parquet" for path in files):
        return "parquet"
    raise DataError(
        "holds neither pictures nor Parquet files",
        where=str(directory),
        fix="name a folder with images and metadata.jsonl, metadata.csv, metadata.parquet or .txt captions",
    )
