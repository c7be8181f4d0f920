"""The embedded world as target data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial

from PIL import Image

from spin.miniature.dataset import Target, TargetPicture, loser_pictures, target_pictures
from spin.miniature.world import Split
from spin.prepare.decoding import fit
from spin.prepare.rows import Pixels, Row, TargetData, sample_id


def read_miniature_data(target: Target, *, train_rows: int | None, losers: bool = False) -> TargetData:
    """Rows in the order train, validation, test.

    Args:
        train_rows: shortens the first split only.
        losers: also the pictures that the winners were preferred to.
    """
    winners = partial(target_pictures, target, train_rows=train_rows)
    beaten = partial(loser_pictures, train_rows=train_rows)
    hashes = [hashlib.sha256(picture.pixels.tobytes()).hexdigest() for picture in beaten()] if losers else None
    rows = [
        Row(
            sample_id(picture.pixels.tobytes(), picture.caption),
            picture.caption,
            picture.split,
            f"miniature/{target}",
            "" if hashes is None else hashes[number],
        )
        for number, picture in enumerate(winners())
    ]
    return TargetData(rows, (), partial(_pictures, winners, rows), partial(_pictures, beaten, rows) if losers else None)


def _pictures(
    draw: Callable[[], Iterator[TargetPicture]], rows: Sequence[Row], size: int, splits: Set[Split]
) -> Iterator[tuple[int, Pixels]]:
    for number, (row, picture) in enumerate(zip(rows, draw(), strict=True)):
        if row.split in splits:
            yield number, fit(Image.fromarray(picture.pixels), size)
