"""The embedded world as target data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from functools import partial

from PIL import Image

from spin.miniature.dataset import Target, TargetPicture, loser_pictures, target_pictures
from spin.miniature.world import Split
from spin.prepare.decoding import fit
from spin.prepare.looking import UNSAFE_PICTURE, Look, Queue
from spin.prepare.rows import Pixels, Row, TargetData, sample_id


def read_miniature_data(
    target: Target, *, train_rows: int | None, losers: bool = False, look: Look | None = None
) -> TargetData:
    """Rows in the order train, validation, test.

    Args:
        train_rows: shortens the first split only.
        losers: also the pictures that the winners were preferred to.
        look: of a safety checker, at the winners.
    """
    winners = partial(target_pictures, target, train_rows=train_rows)
    beaten = partial(loser_pictures, train_rows=train_rows)
    hashes = [hashlib.sha256(picture.pixels.tobytes()).hexdigest() for picture in beaten()] if losers else None
    met: list[Row] = []
    queue = Queue(look)
    for number, picture in enumerate(winners()):
        identity, loser = sample_id(picture.pixels.tobytes(), picture.caption), "" if hashes is None else hashes[number]
        row = Row(identity, picture.caption, picture.split, f"miniature/{target}", loser)
        queue.put(identity, [Image.fromarray(picture.pixels)], partial(_enter, met, row))
    queue.finish()
    kept = [place for place, row in enumerate(met) if not (look is not None and look.drop and row.unsafe)]
    rows = [met[place] for place in kept]
    dropped = {UNSAFE_PICTURE: len(met) - len(rows)} if len(rows) < len(met) else {}
    read = partial(_pictures, rows=rows, places=kept)
    return TargetData(rows, (), partial(read, winners), partial(read, beaten) if losers else None, dropped=dropped)


def _enter(met: list[Row], row: Row, unsafe: bool | None) -> None:
    met.append(replace(row, unsafe=unsafe))


def _pictures(
    draw: Callable[[], Iterator[TargetPicture]],
    side: int,
    splits: Set[Split],
    *,
    rows: Sequence[Row],
    places: Sequence[int],
) -> Iterator[tuple[int, Pixels]]:
    numbers = {place: number for number, place in enumerate(places)}
    for place, picture in enumerate(draw()):
        number = numbers.get(place)
        if number is not None and rows[number].split in splits:
            yield number, fit(Image.fromarray(picture.pixels), rows[number].size(side))
