"""How artifacts stand: their digests and identities as their manifests tell, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from spin.core.errors import ArtifactError
from spin.core.layout import RunsRoot
from spin.core.record import relative
from spin.core.schema import add_digests
from spin.core.store import Manifest, is_whole, read_manifest, verify

SHORT: Final = 12  # digits of a digest in a sentence


@dataclass(frozen=True)
class Standing:
    path: str  # relative to the runs root
    digest: str | None  # of its content; None where nothing tells
    broken: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)  # what it was made from; empty where nothing tells

    @property
    def name(self) -> str:
        return Path(self.path).name


class Artifacts:
    """Artifacts of a runs root; each is looked at once."""

    def __init__(self, root: RunsRoot, *, hash_bytes: bool) -> None:
        """Choose how to look: `hash_bytes` verifies every byte, else manifest, size and footer count."""
        self._root, self._hash_bytes = root, hash_bytes
        self._known: dict[Path, Standing] = {}

    def look(self, artifact: Path) -> Standing:
        if artifact not in self._known:
            self._known[artifact] = self._look(artifact)
        return self._known[artifact]

    def _look(self, artifact: Path) -> Standing:
        path = relative(artifact, self._root)
        try:
            manifest = read_manifest(artifact)
        except ArtifactError as error:
            return Standing(path, None, error.message)
        if manifest is None:
            return Standing(path, None, "has no manifest" if artifact.exists() else "is missing")
        return Standing(path, manifest.content_digest, self._problem(artifact, manifest), manifest.identity)

    def _problem(self, artifact: Path, manifest: Manifest) -> str:
        if not artifact.exists():
            return "is missing"
        if not self._hash_bytes:
            return "" if is_whole(artifact, identity=manifest.identity) else "is damaged"
        try:
            verify(artifact)
        except ArtifactError as error:
            return error.message
        return ""


def differing(problem: str, found: object, wanted: object) -> tuple[str, ...]:
    """A line where two digests differ; one that nobody knows is told where it is missing."""
    if found is None or wanted is None or found == wanted:
        return ()
    return (f"{problem}: {str(found)[:SHORT]}, not {str(wanted)[:SHORT]}",)


def whole_digest(shards: Iterable[Standing]) -> str | None:
    """Digest of all shards together; None where one has none."""
    digests = [shard.digest for shard in shards]
    known = [digest for digest in digests if digest]
    return add_digests(known) if known and len(known) == len(digests) else None
