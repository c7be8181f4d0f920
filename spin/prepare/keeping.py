"""Keeps an artifact that stands, or makes it anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spin.core.store import commit, stands


def keep(
    artifact: Path,
    write: Callable[[Path], None],
    *,
    kind: str,
    digest: Callable[[Path], str],
    identity: Mapping[str, Any],
    environment: Callable[[], Mapping[str, Any]] | None = None,
) -> bool:
    """Commit an artifact unless it stands; true where this call made it."""
    if stands(artifact, identity):
        return False
    commit(artifact, write, kind=kind, digest=digest, identity=identity, environment=environment)
    return True
