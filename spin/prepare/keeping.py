"""Keeps an artifact that stands, or makes it anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spin.core.store import commit, discard, is_intact, is_whole


def stands(artifact: Path, identity: Mapping[str, Any]) -> bool:
    """Made from the same things, and every byte as it was written: what a reader refuses is made anew."""
    return is_whole(artifact, identity=identity) and is_intact(artifact)


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
    discard(artifact)
    commit(artifact, write, kind=kind, digest=digest, identity=identity, environment=environment)
    return True
