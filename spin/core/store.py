"""Commits artifacts so that one either is whole or does not exist.

Write `.<name>.tmp-<host>-<pid>` beside the target, fsync, put it under its name, fsync the folder, and
the manifest last: a file without a manifest does not exist. The first commit wins; a second one with
the same content is the same artifact, a second one with other content is dropped and reported. What
stands damaged, or was made from something else (`identity`), never wins: it is replaced.

Each step raises the audit event `spin.store` with its name (sys.addaudithook): tests kill there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from spin.core.draft import draft_path, files, fill, folders, fsync, remove, sweep
from spin.core.errors import ArtifactError
from spin.core.layout import manifest_path, stamp_path
from spin.core.stamps import stamping

COMMIT_POINTS: Final = (
    "before-write", "after-write", "after-fsync", "after-link", "before-manifest", "after-manifest",
)  # fmt: skip


@dataclass(frozen=True)
class FileRecord:
    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an artifact holds and where it came from.

    `content_digest` names the content and nothing else: equal work gives equal digests, in any split
    into shards. `identity` is what the artifact was made from; `environment` where and how long.
    """

    kind: str
    files: tuple[FileRecord, ...]
    content_digest: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Commit:
    """Outcome of a commit: the manifest that stands now, and whether this call wrote it."""

    manifest: Manifest
    won: bool
    conflicting: bool = False


def commit(
    artifact: Path,
    write: Callable[[Path], None],
    *,
    kind: str,
    digest: Callable[[Path], str] | None = None,
    identity: Mapping[str, Any] | None = None,
    environment: Callable[[], Mapping[str, Any]] | None = None,
) -> Commit:
    """Write an artifact (a file, or a folder if `write` makes one) and commit it.

    Args:
        artifact: final path.
        write: called once with the temporary path to fill.
        digest: content digest of the written path; default, a hash over the files' hashes.
        identity: what it is made from, as JSON; a standing artifact with another one is replaced.
        environment: read after writing, so that it can hold durations.
    """
    temporary = draft_path(artifact)
    try:
        artifact.parent.mkdir(parents=True, exist_ok=True)
        sweep(artifact)
        _pass("before-write", artifact)
        fill(temporary, write)
        _pass("after-write", artifact)
        for path in [*files(temporary), *folders(temporary)]:
            fsync(path)
        _pass("after-fsync", artifact)
        records = _records(temporary)
        content = digest(temporary) if digest is not None else _combine(records)
        manifest = Manifest(kind, records, content, dict(identity or {}), dict(environment() if environment else {}))
        with _locked(artifact.parent):
            return _publish(artifact, temporary, manifest)
    except OSError as error:
        reason = str(error.strerror or error).splitlines()[0]
        raise ArtifactError(f"cannot write: {reason}", where=str(artifact), fix="free space or rights") from error
    finally:
        sweep(artifact)


def read_manifest(artifact: Path) -> Manifest | None:
    """The manifest of an artifact, or None where the artifact does not exist."""
    path = manifest_path(artifact)
    try:
        raw = json.loads(path.read_text("utf-8"))
        if raw.pop("checksum") != _checksum(raw):
            raise ValueError("checksum")
        records = tuple(FileRecord(**record) for record in raw["files"])
        return Manifest(raw["kind"], records, raw["content_digest"], raw["identity"], raw["environment"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            "manifest is damaged", where=str(path), fix="delete it; the artifact is then made again"
        ) from error
    except OSError as error:
        raise ArtifactError(f"cannot read: {error.strerror}", where=str(path), fix="give rights to read it") from error


def is_whole(artifact: Path, *, identity: Mapping[str, Any] | None = None) -> bool:
    """Shallow check for planning and resuming: manifest there, sizes right, Parquet footers in place.

    With `identity`, an artifact made from something else counts as missing.
    """
    return _whole(artifact, identity) is not None


def verify(artifact: Path, *, trusting: bool = False) -> Manifest:
    """Hash every file of an artifact against its manifest; whoever reads the bytes calls this first.

    Args:
        trusting: files that were hashed before and not touched since are not hashed again (`spin.core.stamps`); for
            those who only decide what is missing, never for those who then read the bytes.
    """
    manifest = read_manifest(artifact)
    if manifest is None:
        raise ArtifactError(
            "is not there, or was never finished", where=str(artifact), fix="run again; it is made again"
        )
    _hash(artifact, manifest, trusting=trusting)
    return manifest


def is_intact(artifact: Path) -> bool:
    """Deep check: true where `verify` would pass."""
    try:
        verify(artifact)
    except ArtifactError:
        return False
    return True


def stands(artifact: Path, identity: Mapping[str, Any] | None = None) -> bool:
    """Whole, and every byte found right, now or since anybody touched it: what need not be made again.

    For those who decide what is missing; whoever then reads the bytes calls `verify`.

    Args:
        identity: an artifact made from something else counts as missing; None: whatever it is made from.
    """
    manifest = _whole(artifact, identity)
    if manifest is None:
        return False
    try:
        _hash(artifact, manifest, trusting=True)
    except ArtifactError:
        return False
    return True


def discard(artifact: Path) -> None:
    """Take an artifact away, manifest first, so that it is never half there."""
    manifest_path(artifact).unlink(missing_ok=True)
    stamp_path(artifact).unlink(missing_ok=True)
    remove(artifact)


def hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _publish(artifact: Path, temporary: Path, manifest: Manifest) -> Commit:
    """Under the folder's lock: put the artifact under its name, then its manifest; all space is taken before."""
    if is_whole(artifact, identity=manifest.identity) and is_intact(artifact):
        standing = read_manifest(artifact)
        assert standing is not None
        return Commit(standing, won=False, conflicting=standing.content_digest != manifest.content_digest)
    draft = _draft(temporary, manifest)
    discard(artifact)  # without a manifest, damaged, or made from something else
    if temporary.is_dir():
        temporary.rename(artifact)
    else:
        os.link(temporary, artifact)
        temporary.unlink()
    fsync(artifact.parent)
    _pass("after-link", artifact)
    _pass("before-manifest", artifact)
    draft.rename(manifest_path(artifact))
    fsync(artifact.parent)
    _pass("after-manifest", artifact)
    return Commit(manifest, won=True)


def _draft(temporary: Path, manifest: Manifest) -> Path:
    draft = temporary.with_name(f"{temporary.name}.manifest")
    values = _as_json(asdict(manifest))
    text = json.dumps({**values, "checksum": _checksum(values)}, indent=1, sort_keys=True) + "\n"
    draft.write_text(text, "utf-8")
    fsync(draft)
    return draft


def _checksum(values: Mapping[str, Any]) -> str:
    """Guards the manifest's own text: nothing else would notice a changed content digest."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they come back from a file: tuples are lists there."""
    found: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return found


def _records(path: Path) -> tuple[FileRecord, ...]:
    named = [(file.relative_to(path).as_posix() if path.is_dir() else "", file) for file in files(path)]
    return tuple(FileRecord(name, file.stat().st_size, hash_file(file)) for name, file in named)


def _combine(records: tuple[FileRecord, ...]) -> str:
    return hashlib.sha256("\n".join(f"{r.name} {r.sha256}" for r in records).encode()).hexdigest()


def _locate(artifact: Path, record: FileRecord) -> Path:
    return artifact / record.name if record.name else artifact


def _whole(artifact: Path, identity: Mapping[str, Any] | None) -> Manifest | None:
    """The manifest of an artifact that looks whole."""
    try:
        manifest = read_manifest(artifact)
    except ArtifactError:
        return None
    if manifest is None or (identity is not None and manifest.identity != _as_json(identity)):
        return None
    whole = artifact.exists() and all(_looks_right(_locate(artifact, record), record) for record in manifest.files)
    return manifest if whole else None


def _hash(artifact: Path, manifest: Manifest, *, trusting: bool) -> None:
    """Hash the files against the manifest, where `trusting` only those without a stamp."""
    expected = {_locate(artifact, record): record for record in manifest.files}
    with stamping(artifact, {path: r.sha256 for path, r in expected.items()}, trusting=trusting) as known:
        for path, record in expected.items():
            if path not in known:
                _require_right(path, record)


def _require_right(path: Path, record: FileRecord) -> None:
    try:
        if path.stat().st_size == record.size_bytes and hash_file(path) == record.sha256:
            return
        problem = "bytes differ from the manifest"
    except (FileNotFoundError, NotADirectoryError):
        problem = "file is missing"
    except OSError as error:
        raise ArtifactError(f"cannot read: {error.strerror}", where=str(path), fix="try again") from error
    raise ArtifactError(problem, where=str(path), fix="run again; it is made again")


def _looks_right(path: Path, record: FileRecord) -> bool:
    try:
        if path.stat().st_size != record.size_bytes:
            return False
        if path.suffix != ".parquet":
            return True
        with path.open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            return stream.read() == b"PAR1"
    except OSError:
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One committer at a time in a folder; the lock ends with its process."""
    with (folder / ".commit.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _pass(point: str, artifact: Path) -> None:
    sys.audit("spin.store", point, str(artifact))
