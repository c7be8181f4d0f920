from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spin.prepare.request import PrepareRequest

MakeRequest = Callable[..., PrepareRequest]
Fingerprint = Callable[[Path], dict[str, tuple[str, int]]]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained miniature pipeline as a diffusers folder."""
    from spin.miniature.pipeline import build_pipeline

    folder = tmp_path_factory.mktemp("base") / "pipeline"
    build_pipeline(0).save_pretrained(folder)
    return folder


@pytest.fixture
def make_request(base: Path, tmp_path: Path) -> MakeRequest:
    """A request with the defaults of the config; keywords change single values."""

    def make(**changes: Any) -> PrepareRequest:
        values: dict[str, Any] = {
            "runs_root": tmp_path / "runs",
            "run": "try",
            "source": "imagefolder",
            "path": None,
            "image_column": "image",
            "caption_column": "text",
            "target": "winners",
            "rows": None,
            "held_out_share": 0.1,
            "max_bad_share": 0.1,
            "max_image_pixels": 89_478_485,
            "resolution": None,
            "base": base,
            "base_digest": "b" * 64,
            "seed": 0,
            "device": "cpu",
            "threads": 1,
        }
        return PrepareRequest(**{**values, **changes})

    return make


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write pictures and a metadata.jsonl: `write_folder({"a.png": bytes}, [{"file_name": ..., "text": ...}])`."""

    def write(pictures: dict[str, bytes], records: list[dict[str, Any]] | None = None, name: str = "own") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file, content in pictures.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        if records is None:
            records = [{"file_name": file, "text": f"picture {file}"} for file in pictures]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "metadata.jsonl").write_text(lines, "utf-8")
        return folder

    return write


@pytest.fixture
def fingerprint() -> Fingerprint:
    """Hash and modification time of all below a folder, folders included."""

    def take(folder: Path) -> dict[str, tuple[str, int]]:
        paths = [folder, *folder.rglob("*")]
        hashes = {path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths}
        return {str(path): (digest, path.stat().st_mtime_ns) for path, digest in hashes.items()}

    return take
