"""Tar files in the layout of WebDataset: members of one name, up to its first dot, are one row.

    000017.jpg, 000017.txt            a picture and its caption
    000017.png, 000017.json           ... or the field data.caption_column of an object
    000017.jpg, 000017.worse.jpg      and its loser, where data.loser_column is `worse`

Pictures are read by their place in the file, when they are asked for; of a tar file itself one row is in memory.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from spin.core.errors import DataError
from spin.core.rejecting import UNREADABLE, Rejected
from spin.prepare.candidates import MISSING_FILE, Candidate, Candidates
from spin.prepare.captions import Captions, as_captions, text_of
from spin.prepare.file_lists import FileList, list_files
from spin.prepare.image_folder import PICTURE_SUFFIXES

_LARGEST_TEXT: Final = 1 << 20  # bytes; what is longer is no caption
_PICTURES: Final = tuple(sorted(suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES))


@dataclass(frozen=True)
class _Member:
    """Where the bytes of a member lie."""

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        try:
            with self.tar.open("rb") as stream:
                stream.seek(self.offset)
                return stream.read(self.size)
        except OSError as error:
            raise Rejected(UNREADABLE, f"{self.tar.name}: {error.strerror or error}") from error


@dataclass
class _Row:
    """Members of one name, by what follows its first dot."""

    name: str
    members: dict[str, _Member] = field(default_factory=dict)

    def picture(self, prefix: str = "") -> _Member | None:
        wanted = (f"{prefix}{suffix}" for suffix in _PICTURES)
        return next((self.members[ending] for ending in wanted if ending in self.members), None)


def open_web_dataset(
    path: Path,
    *,
    image_column: str,
    caption_column: str,
    loser_column: str | None = None,
    captions: Captions = "one",
) -> Candidates:
    """Check the tar files at the door; the result reads their rows, in the order of the files, as often as called.

    Args:
        path: a .tar file, a folder, a glob or a brace list.
        caption_column: the field of a .json member that holds the caption, where there is no .txt.
    """
    del image_column  # pictures are found by how their names end
    files = list_files(path, ".tar")
    for _, file in files:
        with _opened(file) as tar:
            if tar.next() is None:
                raise DataError("holds nothing", where=str(file), fix="write it again, or take it away")
    return partial(_candidates, files, caption_column, loser_column, captions)


def _candidates(
    files: FileList, caption_column: str, loser_column: str | None, captions: Captions
) -> Iterator[Candidate]:
    for name, file in files:
        for row in _rows(file):
            picture = row.picture()
            if picture is None and not {"txt", "json"} & row.members.keys():
                continue  # something else that was packed too
            loser = None if loser_column is None else row.picture(f"{loser_column}.")
            yield Candidate(
                f"{name}:{row.name}",
                partial(_bytes_of, picture, row.name),
                _caption(row, caption_column, captions),
                None if loser_column is None else partial(_bytes_of, loser, f"{row.name}.{loser_column}"),
            )


def _rows(file: Path) -> Iterator[_Row]:
    """Neighbours of one name are one row."""
    row: _Row | None = None
    with _opened(file) as tar:
        for member in _members(tar):
            path = PurePosixPath(member.name)
            stem, _, ending = path.name.partition(".")
            name = str(path.with_name(stem))
            if row is None or row.name != name:
                if row is not None:
                    yield row
                row = _Row(name)
            row.members.setdefault(ending.lower(), _Member(file, member.offset_data, member.size))
    if row is not None:
        yield row


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Plain files that are not hidden; none is remembered."""
    try:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else a kilobyte for each
            hidden = any(part.startswith(".") and part != "." for part in PurePosixPath(member.name).parts)
            if member.isreg() and not member.issparse() and not hidden:
                yield member
        _require_end(tar)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _unreadable(tar.name, error) from error


def _require_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a damaged or cut header for the end; the end itself is a block of zeros."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no member and no end at byte {tar.offset}")


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, "r:")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: object, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0] or "it is empty"
    return DataError(f"cannot be read as tar: {reason}", where=str(file), fix="write it again, or take it away")


def _caption(row: _Row, column: str, captions: Captions) -> object:
    """What the .txt says, or a field of the .json; bytes where they are no UTF-8 text, None where there is neither."""
    if (member := row.members.get("txt")) is not None:
        short = _Member(member.tar, member.offset, min(member.size, _LARGEST_TEXT))
        return as_captions(text_of(short.read()), captions)
    if (member := row.members.get("json")) is None:
        return None
    try:
        record = json.loads(member.read())
    except (ValueError, RecursionError):
        return member.read()  # bytes, which are no caption
    return record.get(column) if isinstance(record, dict) else record


def _bytes_of(member: _Member | None, name: str) -> bytes:
    if member is None:
        raise Rejected(MISSING_FILE, f"no picture {name}.*")
    return member.read()
