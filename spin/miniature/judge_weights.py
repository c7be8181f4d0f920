"""Where the judges' weights lie and their digest; no torch, so that a plan can name what scores will be made with."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path


def judges_folder() -> Path:
    return Path(str(files("spin.miniature"))) / "weights" / "judges"


@cache
def judges_digest() -> str:
    """Digest of the judges' weights: it stands in the identity of every score."""
    weights = b"".join(path.read_bytes() for path in sorted(judges_folder().glob("*.safetensors")))
    return hashlib.sha256(weights).hexdigest()[:16]
