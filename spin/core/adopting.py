"""Work that another run of the same root has done already, from the same things: linked, not made again.

An artifact's identity names everything that it is a function of, so equal identities at the same place of two runs
are equal work. Where the class of equal bits or the code differ it is not taken.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spin.core.errors import ArtifactError
from spin.core.layout import RunFolder
from spin.core.store import commit, read_manifest, stands


def donors(run: RunFolder, *, code: str) -> Iterator[RunFolder]:
    """Other runs of the root that the same code made, by name."""
    for record in sorted(run.root.path.glob("*/run.json")):
        try:
            found = json.loads(record.read_text("utf-8"))
        except (ValueError, OSError):
            continue
        if record.parent != run.path and isinstance(found, dict) and found.get("code_version") == code:
            yield run.root.run(record.parent.name)


def adopt(
    run: RunFolder, wanted: Sequence[Path], identity: Mapping[str, Any], *, place: Mapping[str, Any], code: str
) -> bool:
    """Link artifacts of this run out of one that has all of them; the last of them is committed last.

    Args:
        wanted: artifacts of `run` that belong together.
        identity: what they are made from.
        place: the class of equal bits here; a donor's must agree in these keys.

    Returns:
        Whether they stand now.
    """
    for donor in donors(run, code=code):
        sources = [donor.path / path.relative_to(run.path) for path in wanted]
        if all(_fits(source, identity, place) for source in sources):
            for source, target in zip(sources, wanted, strict=True):
                _link(source, target)
            return all(stands(path, identity) for path in wanted)
    return False


def _fits(source: Path, identity: Mapping[str, Any], place: Mapping[str, Any]) -> bool:
    if not stands(source, identity):
        return False
    manifest = read_manifest(source)
    return manifest is not None and all(manifest.environment.get(key, value) == value for key, value in place.items())


def _link(source: Path, target: Path) -> None:
    """Commit the same bytes under another name, with what they cost where they were made."""
    manifest = read_manifest(source)
    assert manifest is not None

    def write(draft: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, draft, copy_function=os.link)
        else:
            os.link(source, draft)

    done = commit(
        target, write, kind=manifest.kind, digest=lambda _: manifest.content_digest, identity=manifest.identity,
        environment=lambda: manifest.environment,
    )  # fmt: skip
    if done.conflicting:
        raise ArtifactError("differs from another run's", where=str(target), fix=f"delete it, or {source}")
