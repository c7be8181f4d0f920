"""Stamps of bytes that were hashed and found right, so that a look for what is missing need not hash them again.

Beside the manifest stands `.<name>.verified`: a token for each file of its sha256 and of size, times and inode as they
were when it was hashed. While a file still has that token it counts as hashed. Who writes a byte of it changes its
ctime, which no program can set back; that a disk lost bits shows to whoever reads them, because readers hash in any
case (`store.verify`), and a failed hash takes the stamp away.

A stamp is a hint and no part of an artifact: torn, stale, of another machine or gone, it costs one more hash. As in
git's index the device is left out: networks and overlays number it anew with each mount.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from spin.core.layout import stamp_path

_SETTLED_NS: Final = 2_000_000_000  # the coarsest clocks of file systems tick in 2 s (FAT); ext4's in 4 ms
_WORTH_BYTES: Final = 1 << 18  # hashed in the time of three looks at a stamp


@contextmanager
def stamping(artifact: Path, files: Mapping[Path, str], *, trusting: bool) -> Iterator[frozenset[Path]]:
    """Hash files in the block and stamp them when it ends; where it raises there is no stamp any more.

    It tells how the files were before the block. One is left out that was touched so shortly before that another
    write could leave the same times. Until the block ends the stamp is empty, which is as good as none, whoever is
    killed.

    Args:
        files: the files and the sha256 that each must have.
        trusting: whether an older stamp counts.

    Yields:
        The files that need no hash: they were hashed before and not touched since.
    """
    looks = {path: _look(path) for path in files}
    tokens = {path: _token(look, files[path]) for path, look in looks.items() if look}
    standing = _read(artifact) if trusting else frozenset()
    known = frozenset(path for path, token in tokens.items() if token in standing)
    if (known and len(known) == len(files)) or sum(look.st_size for look in looks.values() if look) < _WORTH_BYTES:
        yield known
        return
    descriptor, began = _empty_stamp(artifact)
    try:
        yield known
    except BaseException:
        with suppress(OSError):
            stamp_path(artifact).unlink()
        raise
    else:
        settled = [path for path, look in looks.items() if look and look.st_ctime_ns + _SETTLED_NS < began]
        if descriptor is not None:
            with suppress(OSError):
                os.write(descriptor, b"".join(tokens[path] for path in settled))
                if not settled:
                    stamp_path(artifact).unlink()
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _read(artifact: Path) -> frozenset[bytes]:
    """The tokens of a stamp; none where there is no stamp."""
    try:
        return frozenset(stamp_path(artifact).read_bytes().splitlines(keepends=True))
    except OSError:
        return frozenset()


def _empty_stamp(artifact: Path) -> tuple[int | None, int]:
    """An empty stamp to write into, and the time of the file system's own clock; None where none can be written."""
    with suppress(OSError):
        os.utime(stamp_path(artifact))  # where it is empty already, opening it leaves no time
    try:
        descriptor = os.open(stamp_path(artifact), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError:
        return None, 0
    return descriptor, os.fstat(descriptor).st_ctime_ns


def _token(look: os.stat_result, sha256: str) -> bytes:
    """The line of a file in its stamp."""
    seen = (sha256, look.st_size, look.st_mtime_ns, look.st_ctime_ns, look.st_ino)
    return hashlib.sha256(repr(seen).encode()).hexdigest().encode() + b"\n"


def _look(path: Path) -> os.stat_result | None:
    """The file's status of this moment: opening a file asks a network's server, where a mere look may be old."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)
