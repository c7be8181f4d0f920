"""The embedded world as target data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from functools import partial

from PIL import Image

from spin.miniature.dataset import Target, target_pictures
from spin.miniature.world import Split
from spin.prepare.decoding import fit
from spin.prepare.rows import Pixels, Row, TargetData, sample_id


def read_miniature_data(target: Target, *, train_rows: int | None) -> TargetData:
    """Rows in the order train, validation, test; `train_rows` shortens the first only."""
    rows = [
        Row(sample_id(picture.pixels.tobytes(), picture.caption), picture.caption, picture.split, f"miniature/{target}")
        for picture in target_pictures(target, train_rows=train_rows)
    ]
    return TargetData(rows, (), partial(_pictures, target, train_rows, rows))


def _pictures(
    target: Target, train_rows: int | None, rows: Sequence[Row], size: int, splits: Set[Split]
) -> Iterator[tuple[int, Pixels]]:
    pictures = target_pictures(target, train_rows=train_rows)
    for number, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
        if row.split in splits:
            yield number, fit(Image.fromarray(picture.pixels), size)
