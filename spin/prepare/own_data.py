"""A user's own pictures: every row is judged first, then the good ones are read again to be encoded.

Nothing but names and captions stays in memory; user files are only ever opened for reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

from spin.core.errors import DataError
from spin.core.rejecting import Rejected
from spin.miniature.world import Split
from spin.prepare.candidates import DUPLICATE, NO_LOSER, Candidate
from spin.prepare.captions import clean_caption
from spin.prepare.decoding import decode, fit
from spin.prepare.image_folder import open_image_folder
from spin.prepare.rows import Pixels, Rejection, Row, TargetData, sample_id, split_rows

MINIMUM_ROWS: Final = 8  # with fewer there is no held-out part worth the name

OwnSource = Literal["imagefolder", "parquet"]
Candidates = Callable[[], Iterator[Candidate]]
ReadAgain = Callable[[Candidate, Row, int], Pixels]
Again = Callable[[Candidate, Row], tuple[bytes, bool]]


def read_own_data(
    path: Path | None,
    *,
    source: OwnSource,
    image_column: str,
    caption_column: str,
    loser_column: str | None = None,
    train_rows: int | None,
    held_out_share: float,
    max_image_pixels: int,
) -> TargetData:
    """Judge every row; good ones are sorted by identity, bad ones stand as they were met.

    `train_rows` keeps the first train rows only: runs on more and on fewer are judged by the same held-out ones.
    """
    if path is None:
        raise DataError(f"not set, but data.source is {source}", where="data.path", fix="set it to your pictures")
    columns = {"image_column": image_column, "caption_column": caption_column, "loser_column": loser_column}
    candidates = _open(path, source=source, columns=columns)
    good: dict[str, tuple[str, str, str]] = {}  # sample id -> caption, origin, loser
    rejections: list[Rejection] = []
    for candidate in candidates():
        try:
            caption, content = clean_caption(candidate.caption), candidate.read()
            identity = sample_id(content, caption)
            if identity in good:
                raise Rejected(DUPLICATE, f"same picture and caption as {good[identity][1]}")
            decode(content, max_image_pixels=max_image_pixels)
            good[identity] = caption, candidate.origin, _judge_loser(candidate, max_image_pixels)
        except Rejected as error:
            rejections.append(Rejection(candidate.origin, error.reason, error.detail))
    splits = split_rows(list(good), held_out_share=held_out_share)
    rows = [Row(name, good[name][0], splits[name], *good[name][1:]) for name in sorted(_kept(good, splits, train_rows))]
    winners, losers = (
        partial(_pictures, path, candidates, rows, partial(_read_again, path, max_image_pixels, again))
        for again in (_winner, _loser)
    )
    beaten = losers if loser_column is not None else None
    return TargetData(rows, rejections, winners, beaten, left_out=len(good) - len(rows))


def require_enough(data: TargetData, *, where: Path | None) -> None:
    """Own data must have something to train on and something to hold out."""
    if data.usable < MINIMUM_ROWS:
        problem = f"{data.usable} usable {'row' if data.usable == 1 else 'rows'}; a held-out part needs {MINIMUM_ROWS}"
        raise DataError(problem, where=str(where), fix="add pictures")


def _kept(met: Collection[str], splits: Mapping[str, Split], train_rows: int | None) -> list[str]:
    """Every held-out row, and the first train rows in the order of the source."""
    first = set(islice((name for name in met if splits[name] == "train"), train_rows))
    return [name for name in met if name in first or splits[name] != "train"]


def _judge_loser(candidate: Candidate, max_image_pixels: int) -> str:
    """sha256 of a loser that is a whole picture; empty where none is asked for."""
    if candidate.read_loser is None:
        return ""
    try:
        content = candidate.read_loser()
        decode(content, max_image_pixels=max_image_pixels)
    except Rejected as error:
        raise Rejected(NO_LOSER, str(error)) from error
    return hashlib.sha256(content).hexdigest()


def _open(path: Path, *, source: OwnSource, columns: Mapping[str, Any]) -> Candidates:
    if source == "imagefolder":
        return open_image_folder(path, **columns)
    from spin.prepare.parquet_files import open_parquet_files  # `datasets` takes 1 s to import

    return open_parquet_files(path, **columns)


def _pictures(
    path: Path, candidates: Candidates, rows: Sequence[Row], read: ReadAgain, size: int, splits: Set[Split]
) -> Iterator[tuple[int, Pixels]]:
    """Pictures of the rows in `splits`, in the order of the disk."""
    wanted = {row.origin: number for number, row in enumerate(rows) if row.split in splits}
    for candidate in candidates():
        number = wanted.pop(candidate.origin, None)
        if number is None:
            continue
        yield number, read(candidate, rows[number], size)
        if not wanted:
            return
    raise _changed(path, next(iter(wanted)))


def _read_again(path: Path, max_image_pixels: int, again: Again, candidate: Candidate, row: Row, size: int) -> Pixels:
    try:
        content, same = again(candidate, row)
        if not same:
            raise _changed(path, row.origin)
        return fit(decode(content, max_image_pixels=max_image_pixels), size)
    except Rejected as error:
        raise _changed(path, row.origin) from error


def _winner(candidate: Candidate, row: Row) -> tuple[bytes, bool]:
    """A row's picture, and whether it is the one that was judged."""
    content = candidate.read()
    return content, sample_id(content, clean_caption(candidate.caption)) == row.sample_id


def _loser(candidate: Candidate, row: Row) -> tuple[bytes, bool]:
    """The same of the picture that it was preferred to."""
    assert candidate.read_loser is not None
    content = candidate.read_loser()
    return content, hashlib.sha256(content).hexdigest() == row.loser


def _changed(path: Path, origin: str) -> DataError:
    return DataError("changed while it was read", where=f"{path}: {origin}", fix="run again when nobody writes there")
