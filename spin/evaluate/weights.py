"""Weight files of the judges: found, verified by sha256, opened without running anything, loaded strictly."""

from __future__ import annotations

import gzip
import json
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn

from spin.core.errors import ArtifactError
from spin.core.store import hash_file

Module = TypeVar("Module", bound=nn.Module)
_MALFORMED = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError, zlib.error,
)  # fmt: skip


def require_sha256(path: Path, sha256: str | None) -> None:
    """Refuse a file that is missing or is not the pinned one: name, size and sha256, expected and seen."""
    if not path.is_file():
        raise ArtifactError("weights are missing", where=str(path), fix="spin-diffusion doctor --scorers fetches them")
    if sha256 is not None and (seen := hash_file(path)) != sha256:
        raise ArtifactError(
            f"is not the pinned checkpoint: expected sha256 {sha256}; seen {path.stat().st_size} bytes, {seen}",
            where=str(path), fix="delete it; it is fetched again",
        )  # fmt: skip


def load_state(path: Path) -> dict[str, Any]:
    """The state dict of a weight file: safetensors, safetensors.gz, or torch's pickle with `weights_only=True`."""
    require_sha256(path, None)
    try:
        return _opened(path)
    except _MALFORMED as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        problem = f"cannot be read as weights ({path.stat().st_size} bytes): {reason}"
        raise ArtifactError(problem, where=str(path), fix="delete it; it is fetched again") from error


def read_json(path: Path, *, fix: str) -> dict[str, Any]:
    """A config that lies beside weights; `fix` is the way out of one that cannot be read."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot be read: {error}", where=str(path), fix=fix) from error
    return found


def load_into(model: Module, state: Mapping[str, Tensor], name: str) -> Module:
    """The model with exactly these weights, frozen; a missing or unknown key is named."""
    try:
        model.load_state_dict({key: value.float() for key, value in state.items()}, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        raise ArtifactError(
            f"weights do not fit the model: {lines[0][:200] if lines else error}", where=name,
            fix="weights and config must be of one checkpoint",
        ) from error  # fmt: skip
    return model.eval().requires_grad_(False)


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights below a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _opened(path: Path) -> dict[str, Any]:
    if path.name.endswith(".safetensors.gz"):
        return load(gzip.decompress(path.read_bytes()))
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
