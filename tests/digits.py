"""Real pictures for tests: scikit-learn's 1797 scans of handwritten digits (8 x 8), upscaled to 32 x 32."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

Layout = Literal["jsonl", "csv", "parquet", "txt"]


def export_digits(folder: Path, rows: int | None = None, layout: Layout = "jsonl") -> Path:
    """Write the first `rows` scans as an imagefolder: digit-0000.png ... and their captions in one of four layouts."""
    folder.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    for number, (content, caption) in enumerate(digits(rows)):
        name = f"digit-{number:04d}.png"
        (folder / name).write_bytes(content)
        records.append({"file_name": name, "text": caption})
        if layout == "txt":
            (folder / name).with_suffix(".txt").write_text(caption + "\n", "utf-8")
    if layout == "jsonl":
        lines = (json.dumps(record) + "\n" for record in records)
        (folder / "metadata.jsonl").write_text("".join(lines), "utf-8")
    elif layout == "csv":
        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["file_name", "text"])
            writer.writeheader()
            writer.writerows(records)
    elif layout == "parquet":
        pq.write_table(pa.Table.from_pylist(records), folder / "metadata.parquet")
    return folder


def export_digits_table(file: Path, rows: int | None = None, *, start: int = 0) -> Path:
    """Write scans into one Parquet file with columns image (struct{bytes, path}) and text."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    chosen = digits(rows)[start:]
    images = pa.array([{"bytes": content, "path": None} for content, _ in chosen], kind)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, "text": [caption for _, caption in chosen]}), file)
    return file


def digits(rows: int | None = None) -> list[tuple[bytes, str]]:
    """(PNG bytes, "a handwritten digit seven") of the first scans."""
    scans = load_digits()
    return [
        (_png(scan), f"a handwritten digit {NAMES[label]}")
        for scan, label in zip(scans.images[:rows], scans.target[:rows], strict=True)
    ]


def _png(scan: np.ndarray) -> bytes:
    picture = Image.fromarray((scan * (255 / 16)).round().astype(np.uint8))
    buffer = io.BytesIO()
    picture.resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
