"""Files behind a URL, copied once: any file system that fsspec knows, such as s3, gs, https, hf or memory.

Rows are read several times, to be judged and to be encoded, and again for each base model, at places that only this
machine's disk gives cheaply; and what is trained on must not change meanwhile. So files are copied whole, one by one,
each under its name when it is complete: a stopped copy goes on where it was. Files that changed are copied anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from os.path import commonpath
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from spin.core.draft import draft_path, replace_file, sweep
from spin.core.errors import DataError
from spin.core.layout import RunsRoot, SourceFolder
from spin.core.places import is_chained, shown, without_secrets
from spin.core.plan import identity_hash
from spin.core.progress import Progress
from spin.prepare.copied import Copied
from spin.prepare.file_lists import expand_braces
from spin.prepare.foreign import persistently, told
from spin.prepare.sources import OwnSource

SUFFIXES: Final[Mapping[OwnSource, str]] = {
    "imagefolder": "", "parquet": ".parquet", "pickapic": ".parquet", "webdataset": ".tar",
}  # fmt: skip
# By these a file system says that a file is another one; http knows its size alone.
_VERSION: Final = ("size", "ETag", "etag", "md5Hash", "checksum", "mtime", "LastModified", "last_modified", "created")
_MARKS: Final = ("*", "[")  # of a glob; a question mark begins the query of a signed URL


@dataclass(frozen=True)
class _File:
    """A file at its place; `name` is below the folder of the copy."""

    remote: str
    name: str
    size: int | None
    version: str


def copy_from_url(url: str, *, source: OwnSource, root: RunsRoot, progress: Progress) -> Path:
    """The folder of a copy of what `url` stands for: a file, a folder, a glob or a brace list.

    Where the place cannot be asked, a copy that was whole is taken as it is.
    """
    where = shown(url)
    if is_chained(url):
        raise DataError("is a URL of a kind that is not opened", where=where, fix="name the files themselves")
    folder = _folder(url, source, root)
    try:
        files, system = _listed(url, SUFFIXES[source], where)
    except DataError as error:
        if not _is_whole(folder):
            raise
        logging.getLogger(__name__).warning("%s; the copy in %s is taken as it is", error, folder.path)
        return folder.files
    _take_away_others(folder, files)
    draft = draft_path(folder.files)
    for number, file in enumerate(files, 1):
        target = folder.files / file.name
        if not _has(target, file.size):
            with _telling(f"cannot copy {file.name}", url):
                persistently(partial(_copy, system, file, draft, target))
        progress(number, len(files), "files copied")
    return folder.files


def copied_from_url(url: str, *, source: OwnSource, root: RunsRoot) -> Copied | None:
    """What stands of a copy, without the network, by the sizes that its place told last; None where there is none."""
    folder = _folder(url, source, root)
    listed = _listing(folder)
    if not listed:
        return None
    sizes = [size for _, size in listed.values()]
    standing = sum((folder.files / name).stat().st_size for name in listed if (folder.files / name).is_file())
    return Copied(standing, None if None in sizes else sum(size or 0 for size in sizes))


def _folder(url: str, source: OwnSource, root: RunsRoot) -> SourceFolder:
    return root.source(source, identity_hash("url", url, source))


def _listed(url: str, suffix: str, where: str) -> tuple[list[_File], Any]:
    """The files of one kind, and the file system that has them."""
    from fsspec.core import url_to_fs  # only where there is a URL

    found: dict[str, Mapping[str, Any]] = {}
    with _telling("cannot be opened", url):
        for pattern in expand_braces(url):
            system, path = url_to_fs(pattern)
            found |= _matching(system, path, suffix)
    if not found:
        kind = f"{suffix} files" if suffix else "files"
        raise DataError(f"no {kind} there", where=where, fix="name a file, a folder, a glob or a brace list")
    parents = {str(PurePosixPath(_plain(remote)).parent) for remote in found}
    root = commonpath(parents) if path in found or _is_pattern(url) else _plain(path)
    return [_file(remote, info, root, where) for remote, info in found.items()], system


def _matching(system: Any, path: str, suffix: str) -> dict[str, Mapping[str, Any]]:
    if any(mark in path for mark in _MARKS):
        found = system.glob(path, detail=True)
    elif suffix and urlsplit(path).path.endswith(suffix):
        found = {path: system.info(path)}
    else:
        found = system.find(path, detail=True)
    return {name: info for name, info in found.items() if info.get("type") == "file" and _plain(name).endswith(suffix)}


def _is_pattern(url: str) -> bool:
    return len(expand_braces(url)) > 1 or any(mark in url for mark in _MARKS)


def _file(remote: str, info: Mapping[str, Any], root: str, where: str) -> _File:
    place = PurePosixPath(_plain(remote))
    if ".." in place.parts or not place.is_relative_to(root):
        raise DataError(f"a file is called {_plain(remote)!r}", where=where, fix="name its folder")
    name = str(place.relative_to(root))
    known = [str(info.get(key)) for key in _VERSION]
    return _File(remote, name, info.get("size"), identity_hash(*known)[:16])


def _plain(name: str) -> str:
    """A remote name without the query of a signed URL."""
    return name.partition("?")[0] if name.startswith(("http://", "https://")) else name


def _take_away_others(folder: SourceFolder, files: list[_File]) -> None:
    """Remove copies of what has changed or gone; from then on a file under its name is the one that is listed."""
    folder.files.mkdir(parents=True, exist_ok=True)
    sweep(folder.files)
    before = {name: version for name, (version, _) in _listing(folder).items()}
    now = {file.name: file.version for file in files}
    for name in before.keys() | {path.relative_to(folder.files).as_posix() for path in _copied(folder)}:
        if now.get(name) != before.get(name, ""):
            (folder.files / name).unlink(missing_ok=True)
    sizes = {file.name: [file.version, file.size] for file in files}
    replace_file(folder.listing, json.dumps(sizes, indent=0, sort_keys=True).encode())


def _listing(folder: SourceFolder) -> dict[str, tuple[str, int | None]]:
    """Version and size of each file as they were listed last; nothing where none were."""
    try:
        found = json.loads(folder.listing.read_text("utf-8")).items()
        return {name: (version, size) for name, (version, size) in found}
    except (OSError, ValueError):
        return {}


def _is_whole(folder: SourceFolder) -> bool:
    listed = _listing(folder)
    return bool(listed) and all(_has(folder.files / name, size) for name, (_, size) in listed.items())


def _copied(folder: SourceFolder) -> Iterator[Path]:
    return (path for path in folder.files.rglob("*") if path.is_file())


def _has(path: Path, size: int | None) -> bool:
    try:
        return path.stat().st_size == size if size is not None else path.is_file()
    except OSError:
        return False


def _copy(system: Any, file: _File, draft: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        system.get_file(file.remote, str(draft))
        if not _has(draft, file.size):
            raise ConnectionError(f"{draft.stat().st_size} of {file.size} bytes came")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _telling(problem: str, url: str) -> AbstractContextManager[None]:
    fix = "see that it can be reached and read, or set data.path to a copy of the files"
    return told(problem, where=shown(url), fix=fix, cleaned=lambda text: without_secrets(text, url))
