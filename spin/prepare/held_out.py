"""Writes the held-out pictures as PNG, for the metrics that compare with real ones."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.schema import IMAGE_TYPE, image_schema
from spin.diffusion.pictures import encode_png
from spin.miniature.world import Split
from spin.prepare.rows import Row, TargetData

HELD_OUT_SPLITS: Final[frozenset[Split]] = frozenset({"validation", "test"})
HELD_OUT: Final = image_schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("split", pa.string()),
        pa.field("image", IMAGE_TYPE),
    ],
    ["image"],
)
_ROW_GROUP: Final = 64


def write_held_out(path: Path, data: TargetData, *, size: int) -> None:
    """Validation and test rows in the order of prompts.parquet; pixels wait in a nameless file, not in memory."""
    numbers = [number for number, row in enumerate(data.rows) if row.split in HELD_OUT_SPLITS]
    position = {number: index for index, number in enumerate(numbers)}
    with tempfile.TemporaryFile(dir=path.parent) as scratch:
        os.posix_fallocate(scratch.fileno(), 0, 3 * len(numbers) * size**2)  # a full disk is told here, not by SIGBUS
        pixels = np.memmap(scratch, np.uint8, "w+", shape=(len(numbers), size, size, 3))
        for number, picture in data.pictures(size, HELD_OUT_SPLITS):
            pixels[position[number]] = picture
        with pq.ParquetWriter(path, HELD_OUT, use_dictionary=False, write_page_checksum=True) as writer:
            for start in range(0, len(numbers), _ROW_GROUP):
                chunk = range(start, min(start + _ROW_GROUP, len(numbers)))
                rows = [_describe(data.rows[numbers[i]], pixels[i]) for i in chunk]
                writer.write_table(pa.Table.from_pylist(rows, schema=HELD_OUT))


def _describe(row: Row, pixels: np.ndarray) -> dict[str, Any]:
    image = {"bytes": encode_png(np.asarray(pixels)), "path": f"{row.sample_id}.png"}
    return {"sample_id": row.sample_id, "caption": row.caption, "split": row.split, "image": image}
