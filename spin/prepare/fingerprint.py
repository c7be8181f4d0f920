"""Whether a source may have changed, asked without opening a file of it: names, sizes and times."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from spin.prepare.file_lists import list_files

_SUFFIXES: Final = {"parquet": ".parquet", "pickapic": ".parquet", "webdataset": ".tar"}


def fingerprint(path: Path | None, *, source: str) -> str:
    """Digest of the files that a source is read from; empty where it cannot be told, as of folders behind links.

    The time of a file's last change counts too (ctime, ns), which copying with old times or setting them cannot
    keep: another content under the same size and mtime is another fingerprint. Take it before the files are read.
    """
    if path is None or source == "miniature":
        return ""
    digest = hashlib.sha256()
    try:
        for name, status in _files(path, source):
            facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            digest.update(os.fsencode(name) + b"\0" + " ".join(map(str, facts)).encode() + b"\n")
    except OSError:  # whoever reads it says what is wrong
        return ""
    return digest.hexdigest()


def _files(path: Path, source: str) -> Iterator[tuple[str, os.stat_result]]:
    if source in _SUFFIXES:
        return ((str(file), file.stat()) for file in list_files(path, _SUFFIXES[source]).files)
    return _below(path)


def _below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below a folder, hidden ones too: metadata may name them; one folder's names are in memory."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        elif entry.is_dir():
            raise NotADirectoryError(entry.path)  # what lies behind a link is not walked, and may change
        else:
            yield entry.path, _status(entry)


def _status(entry: os.DirEntry[Any]) -> os.stat_result:
    """Of the file, or of a link that leads nowhere itself."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)
