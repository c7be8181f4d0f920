"""Work that another run of the same root has done already, from the same things: linked, not made again.

An artifact's identity names everything that it is a function of, so equal identities at the same place of two runs
are equal work. Where the class of equal bits or the code differ it is not taken. Adopting is a short cut and never an
error: what cannot be taken is made.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spin.core.environment import class_in
from spin.core.errors import ArtifactError
from spin.core.layout import RunFolder
from spin.core.store import commit, is_whole, read_manifest, stands, verify


@dataclass(frozen=True)
class Place:
    """The class of equal bits that work must be of, as far as whoever adopts it can tell."""

    bits: Mapping[str, object]  # what a manifest must hold, with these values
    device: str = ""  # what its device begins with: cpu or cuda; empty for any

    def holds(self, made: Mapping[str, Any]) -> bool:
        same = all(key in made and made[key] == value for key, value in self.bits.items())
        return same and str(made.get("device", "")).startswith(self.device)


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
    run: RunFolder,
    wanted: Sequence[Path],
    identity: Mapping[str, Any],
    *,
    place: Place,
    code: str,
    beside: Sequence[Path] = (),
) -> bool:
    """Link artifacts of this run out of one that has all of them; the last of them is committed last.

    Args:
        wanted: artifacts of `run` that belong together; the last one's manifest tells the class. Those of this run
            that stand already are kept, and must be the donor's.
        identity: what they are made from.
        place: the class of equal bits that is asked for.
        beside: artifacts that come along and are no function of the identity, such as durations; one that stands
            already is kept, whatever it holds.

    Returns:
        Whether they stand now.
    """
    for donor in donors(run, code=code):
        theirs, more = _of(donor, run, wanted), _of(donor, run, beside)
        fits = _holds(theirs[-1], place) and all(stands(path, identity) for path in (*more, *theirs))
        if fits and _agree(theirs, wanted, identity) and _take((*more, *theirs), (*beside, *wanted), identity):
            return all(stands(path, identity) for path in wanted)
    return False


def common_class(
    run: RunFolder, parts: Sequence[Path], identity: Mapping[str, Any], *, place: Place, code: str
) -> dict[str, object] | None:
    """The first class within `place` of which other runs have every one of these artifacts."""
    found: list[list[dict[str, object]]] = []
    for part in parts:
        theirs = [path for donor in donors(run, code=code) for path in _of(donor, run, [part])]
        whole = [path for path in theirs if _holds(path, place) and stands(path, identity)]
        found.append([class_of(path, identity) for path in whole])
    return next((bits for bits in found[0] if all(bits in classes for classes in found)), None) if found else None


def class_of(artifact: Path, identity: Mapping[str, Any]) -> dict[str, object]:
    """The class of equal bits that an artifact was made in; empty where it does not stand."""
    manifest = read_manifest(artifact) if is_whole(artifact, identity=identity) else None
    return {} if manifest is None else class_in(manifest.environment)


def _of(donor: RunFolder, run: RunFolder, wanted: Sequence[Path]) -> list[Path]:
    return [donor.path / path.relative_to(run.path) for path in wanted]


def _holds(source: Path, place: Place) -> bool:
    manifest = read_manifest(source) if is_whole(source) else None
    return manifest is not None and place.holds(manifest.environment)


def _agree(theirs: Sequence[Path], ours: Sequence[Path], identity: Mapping[str, Any]) -> bool:
    """Whether what stands here already is what the donor has."""
    pairs = [(source, target) for source, target in zip(theirs, ours, strict=True) if stands(target, identity)]
    return all(_digest(source) == _digest(target) for source, target in pairs)


def _digest(artifact: Path) -> str | None:
    manifest = read_manifest(artifact)
    return None if manifest is None else manifest.content_digest


def _take(theirs: Sequence[Path], ours: Sequence[Path], identity: Mapping[str, Any]) -> bool:
    """Link what does not stand yet; False where a donor went away, lies on another disk, or somebody was first."""
    try:
        missing = [pair for pair in zip(theirs, ours, strict=True) if not stands(pair[1], identity)]
        return all(_link(source, target) for source, target in missing)
    except ArtifactError:
        return False


def _link(source: Path, target: Path) -> bool:
    """Commit the same bytes under another name, with what they cost where they were made; False on a conflict."""
    manifest = verify(source)  # the bytes get a new manifest, by what they are now

    def write(draft: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, draft, copy_function=os.link)
        else:
            os.link(source, draft)

    done = commit(
        target, write, kind=manifest.kind, digest=lambda _: manifest.content_digest, identity=manifest.identity,
        environment=lambda: manifest.environment,
    )  # fmt: skip
    return not done.conflicting
