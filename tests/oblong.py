"""Pictures of several shapes for tests, each with a caption of the miniature's words and a picture that lost to it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

SHAPES: Final = ((64, 64), (60, 100), (100, 60), (40, 200))  # height and width; with steps of 16 the last two share one


def write_oblong(folder: Path, rows: int = 32) -> Path:
    """An imagefolder with metadata.jsonl: file_name, text and loser; row n has shape n of `SHAPES`."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(rows):
        names = [f"{number:03d}.png", f"{number:03d}-lost.png"]
        for place, name in enumerate(names):
            (folder / name).write_bytes(picture(2 * number + place, *SHAPES[(number + place) % len(SHAPES)]))
        records.append({"file_name": names[0], "text": _caption(number), "loser": names[1]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return folder


def picture(seed: int, height: int, width: int) -> bytes:
    """A PNG of soft colours, as no other seed gives."""
    grid = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def _caption(number: int) -> str:
    colours, shapes = ("red", "blue", "green", "white"), ("circle", "star", "ring")
    return f"a {colours[number % 4]} {shapes[number % 3]}"
