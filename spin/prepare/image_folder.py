"""A folder of pictures: with metadata files beside them, or with a .txt caption beside each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

from spin.core.errors import DataError
from spin.core.rejecting import UNREADABLE, Rejected
from spin.prepare.candidates import MISSING_FILE, Candidate, Candidates
from spin.prepare.captions import Captions, as_captions, text_of
from spin.prepare.columns import require_column
from spin.prepare.metadata import METADATA_NAMES, metadata_columns, read_metadata

PICTURE_SUFFIXES: Final = frozenset({
    ".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
FILE_COLUMN: Final = "file_name"
ACCEPTED: Final = (
    f"add {' or '.join(METADATA_NAMES)} with columns file_name and text, or a .txt caption beside each picture"
)


def open_image_folder(
    folder: Path,
    *,
    image_column: str,
    caption_column: str,
    loser_column: str | None = None,
    captions: Captions = "one",
) -> Candidates:
    """Check the folder at the door; the result reads its rows, as often as it is called.

    Where metadata files stand in the folder or below it, they alone say what belongs to the data.
    """
    _require_folder(folder)
    metadata: list[Path] = []
    pictures, has_captions = 0, False
    for file in _visible_files(folder):
        if file.name in METADATA_NAMES:
            metadata.append(file)
        elif file.suffix.lower() in PICTURE_SUFFIXES:
            pictures += 1
            has_captions = has_captions or file.with_suffix(".txt").is_file()
    if metadata:
        _refuse_two_in_one_folder(metadata)
        columns = [_file_column(file, image_column=image_column, caption_column=caption_column) for file in metadata]
        if loser_column is not None:
            for file in metadata:
                require_column(loser_column, metadata_columns(file), key="data.loser_column", where=file)
        named = list(zip(metadata, columns, strict=True))
        return partial(_rows_of_metadata, folder, named, caption_column, loser_column)
    if loser_column is not None:
        raise DataError(
            f"no metadata file, so no column {loser_column!r}",
            where=str(folder),
            fix=f"add {' or '.join(METADATA_NAMES)} with columns file_name, text and {loser_column}",
        )
    if not pictures:
        raise DataError(
            "holds no pictures", where=str(folder), fix=f"set data.path to a folder with pictures and {ACCEPTED}"
        )
    if not has_captions:
        raise DataError(f"{pictures} pictures, but no captions", where=str(folder), fix=ACCEPTED)
    return partial(_rows_of_text_files, folder, captions)


def _require_folder(folder: Path) -> None:
    if not folder.exists():
        raise DataError("no such folder", where=str(folder), fix="set data.path to the folder with the pictures")
    if not folder.is_dir():
        fix = "set data.path to the folder around it"
        fix = {".parquet": "set data.source=parquet", ".tar": "set data.source=webdataset"}.get(folder.suffix, fix)
        raise DataError("is a file, not a folder", where=str(folder), fix=fix)


def _visible_files(folder: Path) -> Iterator[Path]:
    """All files below the folder but hidden ones, in the order of their names; one folder's names are in memory."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            yield from _visible_files(path)
        elif path.is_file():
            yield path


def _refuse_two_in_one_folder(metadata: Sequence[Path]) -> None:
    for one, other in pairwise(metadata):
        if one.parent == other.parent:
            raise DataError(
                f"two metadata files: {one.name}, {other.name}", where=str(one.parent), fix="keep one of them"
            )


def _file_column(file: Path, *, image_column: str, caption_column: str) -> str:
    """The column that names the pictures: file_name, or else data.image_column."""
    columns = metadata_columns(file)
    if not columns:
        raise DataError(
            "holds no rows", where=str(file), fix='write one row a picture: {"file_name": ..., "text": ...}'
        )
    require_column(caption_column, columns, key="data.caption_column", where=file)
    if FILE_COLUMN in columns:
        return FILE_COLUMN
    if image_column not in columns:
        shown = ", ".join(columns)
        raise DataError(
            f"no column {FILE_COLUMN!r}; columns are {shown}", where=str(file), fix="add file_name to each row"
        )
    return image_column


def _rows_of_metadata(
    folder: Path, metadata: Sequence[tuple[Path, str]], caption_column: str, loser_column: str | None
) -> Iterator[Candidate]:
    for file, file_column in metadata:
        name = file.relative_to(folder).as_posix()
        for number, record in read_metadata(file):
            read = partial(_read_named, file.parent, record.get(file_column))
            loser = None if loser_column is None else partial(_read_named, file.parent, record.get(loser_column))
            yield Candidate(f"{name}:{number}", read, record.get(caption_column), loser)


def _rows_of_text_files(folder: Path, captions: Captions) -> Iterator[Candidate]:
    for picture in _visible_files(folder):
        if picture.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        origin = picture.relative_to(folder).as_posix()
        caption = as_captions(_caption_beside(picture), captions)
        yield Candidate(origin, partial(_read_file, picture, origin), caption)


def _caption_beside(picture: Path) -> object:
    """The .txt beside a picture; bytes where they are no UTF-8 text, None where there is none."""
    try:
        return text_of(picture.with_suffix(".txt").read_bytes())
    except OSError:
        return None


def _read_named(folder: Path, name: object) -> bytes:
    if not isinstance(name, str) or not name.strip():
        raise Rejected(MISSING_FILE, "no file name")
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise Rejected(MISSING_FILE, f"{name} leaves the folder")
    return _read_file(folder / name, name)


def _read_file(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError) as error:
        raise Rejected(MISSING_FILE, name) from error
    except OSError as error:
        raise Rejected(UNREADABLE, f"{name}: {error.strerror or error}") from error
