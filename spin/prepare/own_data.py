"""A user's own pictures: every row is judged first, then the good ones are read again to be encoded.

Nothing of a row stays in memory; user files are only ever opened for reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from PIL import Image

from spin.core.buckets import Buckets, Size
from spin.core.errors import DataError
from spin.core.plan import prompt_hash
from spin.core.rejecting import Rejected
from spin.miniature.world import Split
from spin.prepare.candidates import DUPLICATE, NO_LOSER, REPEATED, Candidate, Candidates
from spin.prepare.captions import Captions, Several, clean_caption, settle
from spin.prepare.decoding import crop_place, decode, fit
from spin.prepare.ledger import Ledger, plain
from spin.prepare.looking import UNSAFE_PICTURE, Look, Queue
from spin.prepare.rows import Crop, Pixels, Row, TargetData, sample_id
from spin.prepare.sources import OwnSource, open_source

MINIMUM_ROWS: Final = 8  # with fewer there is no held-out part worth the name

ReadAgain = Callable[[Candidate, Row, Size], Pixels]
Again = Callable[[Candidate, Row], tuple[bytes, bool]]


def read_own_data(
    path: Path | None,
    *,
    source: OwnSource,
    image_column: str,
    caption_column: str,
    loser_column: str | None = None,
    pairs: bool = False,
    captions: Captions = "one",
    crop: Crop = "center",
    buckets: Buckets | None = None,
    train_rows: int | None,
    held_out_share: float,
    max_image_pixels: int,
    look: Look | None = None,
) -> TargetData:
    """Judge every row; good ones are sorted by identity, bad ones stand as they were met.

    Args:
        pairs: losers of Pick-a-Pic too; `loser_column` asks for those of other sources.
        captions: what becomes of a row with several.
        buckets: of the train pictures; None: all are squares.
        look: of a safety checker, at every picture that is whole.
        train_rows: keeps the first train rows only: runs on more and on fewer are judged by the same held-out ones.
    """
    if path is None:
        raise DataError(f"not set, but data.source is {source}", where="data.path", fix="set it to your pictures")
    columns = {"image_column": image_column, "caption_column": caption_column, "loser_column": loser_column}
    candidates = open_source(path, source=source, columns=columns, pairs=pairs, captions=captions)
    drop = look is not None and look.drop
    ledger, judge = Ledger(), _Judge(source, captions, max_image_pixels, Queue(look), drop, buckets)
    for met, candidate in enumerate(candidates()):
        judge.enter(met, candidate, ledger)
    judge.queue.finish()
    rows, left_out = ledger.split(held_out_share=held_out_share, train_rows=train_rows)
    winners, losers = (
        partial(_pictures, path, candidates, ledger, partial(_read_again, path, max_image_pixels, crop, again))
        for again in (_winner, _loser)
    )
    beaten = losers if loser_column is not None or pairs else None
    return TargetData(rows, ledger.rejections, winners, beaten, left_out, ledger.dropped, crop, buckets)


def require_enough(data: TargetData, *, where: Path | None) -> None:
    """Own data must have something to train on and something to hold out."""
    if data.usable < MINIMUM_ROWS:
        problem = f"{data.usable} usable {'row' if data.usable == 1 else 'rows'}; a held-out part needs {MINIMUM_ROWS}"
        raise DataError(problem, where=str(where), fix="add pictures")


@dataclass(frozen=True)
class _Judge:
    """Enters rows as good, as bad with the reason, or as left out by a rule."""

    source: OwnSource
    captions: Captions
    max_image_pixels: int
    queue: Queue  # before a safety checker
    drop_unsafe: bool
    buckets: Buckets | None = None

    def enter(self, met: int, candidate: Candidate, ledger: Ledger) -> None:
        if candidate.dropped is not None:
            return ledger.drop(candidate.dropped)
        try:
            caption = candidate.caption if isinstance(candidate.caption, Several) else clean_caption(candidate.caption)
            content = candidate.read()
            caption = settle(caption, content)
            identity = sample_id(content, caption)
            self.queue.settle(identity)
            ledger.refuse_repeated(identity)
            picture = decode(content, max_image_pixels=self.max_image_pixels)
            loser, beaten = _judge_loser(candidate, self.max_image_pixels)
        except Rejected as error:
            if error.reason == DUPLICATE and self.source == "pickapic":  # a picture may win many times
                return ledger.drop(REPEATED)
            return ledger.reject(candidate.origin, error.reason, error.detail)
        bucket = None if self.buckets is None else self.buckets.nearest(picture.height, picture.width)
        keep = partial(
            ledger.keep, met=met, identity=identity, group=self._group(identity, content, caption), caption=caption,
            origin=candidate.origin, loser=loser, bucket=bucket,
        )  # fmt: skip
        return self.queue.put(identity, [picture, *beaten], partial(self._enter_good, ledger, keep))

    def _enter_good(self, ledger: Ledger, keep: Callable[..., None], unsafe: bool | None) -> None:
        if unsafe and self.drop_unsafe:
            return ledger.drop(UNSAFE_PICTURE)
        return keep(unsafe=unsafe)

    def _group(self, identity: str, content: bytes, caption: str) -> str:
        """What must stand on one side of the held-out cut.

        Pick-a-Pic shows one caption to many people; where all captions of a picture are rows, it is in all of them.
        """
        if self.source == "pickapic":
            return prompt_hash(caption)
        return hashlib.sha256(content).hexdigest() if self.captions == "all" else identity


def _judge_loser(candidate: Candidate, max_image_pixels: int) -> tuple[str, list[Image.Image]]:
    """sha256 of a loser, and the whole picture; empty where none is asked for."""
    if candidate.read_loser is None:
        return "", []
    try:
        content = candidate.read_loser()
        picture = decode(content, max_image_pixels=max_image_pixels)
    except Rejected as error:
        raise Rejected(NO_LOSER, str(error)) from error
    return hashlib.sha256(content).hexdigest(), [picture]


def _pictures(
    path: Path, candidates: Candidates, ledger: Ledger, read: ReadAgain, side: int, splits: Set[Split]
) -> Iterator[tuple[int, Pixels]]:
    """Pictures of the rows in `splits`, in the order of the source, in which they were judged."""
    wanted = ledger.in_order_met(splits)
    awaited = next(wanted, None)
    for met, candidate in enumerate(candidates()):
        if awaited is None:
            return
        place, number, row = awaited
        if met < place:
            continue
        if plain(candidate.origin) != row.origin:
            raise _changed(path, row.origin)
        yield number, read(candidate, row, row.size(side))
        awaited = next(wanted, None)
    if awaited is not None:
        raise _changed(path, awaited[-1].origin)


def _read_again(
    path: Path, max_image_pixels: int, crop: Crop, again: Again, candidate: Candidate, row: Row, size: Size
) -> Pixels:
    """A picture as the model sees it; winner and loser of a row are of one size, cropped at the same place."""
    try:
        content, same = again(candidate, row)
        if not same:
            raise _changed(path, row.origin)
        image = decode(content, max_image_pixels=max_image_pixels)
        return fit(image, size, place=crop_place(row.sample_id, crop))
    except Rejected as error:
        raise _changed(path, row.origin) from error


def _winner(candidate: Candidate, row: Row) -> tuple[bytes, bool]:
    """A row's picture, and whether it is the one that was judged."""
    content = candidate.read()
    return content, sample_id(content, settle(candidate.caption, content)) == row.sample_id


def _loser(candidate: Candidate, row: Row) -> tuple[bytes, bool]:
    """The same of the picture that it was preferred to."""
    assert candidate.read_loser is not None
    content = candidate.read_loser()
    return content, hashlib.sha256(content).hexdigest() == row.loser


def _changed(path: Path, origin: str) -> DataError:
    return DataError("changed while it was read", where=f"{path}: {origin}", fix="run again when nobody writes there")
