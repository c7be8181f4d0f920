"""What names a model, whoever made it; no torch, so that a flow can ask before a room is opened."""

from __future__ import annotations

import hashlib
from pathlib import Path

from spin.core.store import hash_file
from spin.diffusion.families.registry import family_of


def model_digest(folder: Path) -> str:
    """Digest of every file that makes the model, wherever the folder lies: its index, and its family's parts.

    What else lies there is none of it: a safety checker that is downloaded later leaves the digest.
    """
    parts = (path for name in family_of(folder).parts for path in (folder / name).rglob("*"))
    made_of = {".json", ".safetensors", ".txt", ".model"}
    files = sorted([folder / "model_index.json", *(p for p in parts if p.is_file() and p.suffix in made_of)])
    lines = (f"{path.relative_to(folder).as_posix()} {hash_file(path)}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
