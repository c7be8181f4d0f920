"""Commits artifacts so that one either is whole or does not exist.

Write `.<name>.tmp-<host>-<pid>` beside the target, fsync, put it under its name, fsync the folder, and
the manifest last: a file without a manifest does not exist. The first commit wins; a second one with
the same content is the same artifact, a second one with other content is dropped and reported.

Each step raises the audit event `spin.store` with its name (sys.addaudithook): tests kill there.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from spin.core.errors import ArtifactError
from spin.core.layout import manifest_path

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
        environment: read after writing, so that it can hold durations.
    """
    artifact.parent.mkdir(parents=True, exist_ok=True)
    temporary = artifact.with_name(f".{artifact.name}.tmp-{socket.gethostname()}-{os.getpid()}")
    _sweep(artifact)
    try:
        _pass("before-write", artifact)
        write(temporary)
        _pass("after-write", artifact)
        for path in _files(temporary):
            _fsync(path)
        _pass("after-fsync", artifact)
        records = _records(temporary)
        content = digest(temporary) if digest is not None else _combine(records)
        manifest = Manifest(kind, records, content, dict(identity or {}), dict(environment() if environment else {}))
        with _locked(artifact.parent):
            return _publish(artifact, temporary, manifest)
    except OSError as error:
        raise ArtifactError(
            f"cannot write: {error.strerror or error}", where=str(artifact), fix="free space or rights"
        ) from error
    finally:
        _sweep(artifact)


def read_manifest(artifact: Path) -> Manifest | None:
    """The manifest of an artifact, or None where the artifact does not exist."""
    path = manifest_path(artifact)
    try:
        raw = json.loads(path.read_text("utf-8"))
        files = tuple(FileRecord(**record) for record in raw["files"])
        return Manifest(raw["kind"], files, raw["content_digest"], raw["identity"], raw["environment"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            "manifest is damaged", where=str(path), fix="delete it; the artifact is then made again"
        ) from error


def is_whole(artifact: Path, *, identity: Mapping[str, Any] | None = None) -> bool:
    """Shallow check for planning and resuming: manifest there, sizes right, Parquet footers in place.

    With `identity`, an artifact made from something else counts as missing.
    """
    try:
        manifest = read_manifest(artifact)
    except ArtifactError:
        return False
    if manifest is None or (identity is not None and dict(manifest.identity) != dict(identity)):
        return False
    return all(_looks_right(_locate(artifact, record), record) for record in manifest.files)


def verify(artifact: Path) -> Manifest:
    """Hash every file of an artifact against its manifest; whoever reads the bytes calls this first."""
    manifest = read_manifest(artifact)
    if manifest is None:
        raise ArtifactError(
            "is not there, or was never finished", where=str(artifact), fix="run again; it is made again"
        )
    for record in manifest.files:
        path = _locate(artifact, record)
        if not path.exists():
            raise ArtifactError("file is missing", where=str(path), fix="run again; it is made again")
        if path.stat().st_size != record.size_bytes or hash_file(path) != record.sha256:
            raise ArtifactError("bytes differ from the manifest", where=str(path), fix="run again; it is made again")
    return manifest


def is_intact(artifact: Path) -> bool:
    """Deep check: true where `verify` would pass."""
    try:
        verify(artifact)
    except ArtifactError:
        return False
    return True


def discard(artifact: Path) -> None:
    """Take an artifact away, manifest first, so that it is never half there."""
    manifest_path(artifact).unlink(missing_ok=True)
    _remove(artifact)


def hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _publish(artifact: Path, temporary: Path, manifest: Manifest) -> Commit:
    if is_whole(artifact):
        standing = read_manifest(artifact)
        assert standing is not None
        return Commit(standing, won=False, conflicting=standing.content_digest != manifest.content_digest)
    discard(artifact)  # a file without a manifest, or a damaged one
    if temporary.is_dir():
        temporary.rename(artifact)
    else:
        os.link(temporary, artifact)
    _fsync(artifact.parent)
    _pass("after-link", artifact)
    _write_manifest(artifact, temporary, manifest)
    return Commit(manifest, won=True)


def _write_manifest(artifact: Path, temporary: Path, manifest: Manifest) -> None:
    draft = temporary.with_name(f"{temporary.name}.manifest")
    draft.write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n", "utf-8")
    _fsync(draft)
    _pass("before-manifest", artifact)
    draft.rename(manifest_path(artifact))
    _fsync(artifact.parent)
    _pass("after-manifest", artifact)


def _records(path: Path) -> tuple[FileRecord, ...]:
    named = [(file.relative_to(path).as_posix() if path.is_dir() else "", file) for file in _files(path)]
    return tuple(FileRecord(name, file.stat().st_size, hash_file(file)) for name, file in named)


def _combine(records: tuple[FileRecord, ...]) -> str:
    return hashlib.sha256("\n".join(f"{r.name} {r.sha256}" for r in records).encode()).hexdigest()


def _locate(artifact: Path, record: FileRecord) -> Path:
    return artifact / record.name if record.name else artifact


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


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One committer at a time in a folder; the lock ends with its process."""
    with (folder / ".commit.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _sweep(artifact: Path) -> None:
    """Remove what killed writers of this artifact left on this machine."""
    prefix = f".{artifact.name}.tmp-{socket.gethostname()}-"
    for leftover in artifact.parent.glob(f"{glob.escape(prefix)}*"):
        owner = leftover.name.removeprefix(prefix).split(".")[0]
        if int(owner) == os.getpid() or not psutil.pid_exists(int(owner)):
            _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pass(point: str, artifact: Path) -> None:
    sys.audit("spin.store", point, str(artifact))
