"""How far two artifacts of one kind are apart: columns of tables, tensors of weights, pictures.

A difference is the largest absolute one of a column or tensor, in its own unit; of pictures, of a pixel in 0..1.
What cannot be compared number by number, another text, row or shape, is infinitely far apart.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spin.core.errors import ArtifactError
from spin.core.schema import IMAGE_TYPE, is_tensor, read_table, read_tensors

APART: Final = math.inf
TOLD: Final = float(np.finfo(np.float32).max)  # the most that a room's answer tells: JSON has no infinity and no NaN
Differences = Mapping[str, float]  # by column or tensor; what is equal is not in it


def table_differences(a: Path, b: Path) -> dict[str, float]:
    """Columns of two Parquet files that differ, their rows held against each other in the files' order."""
    first, second = read_table(a), read_table(b)
    if first.schema.names != second.schema.names:
        return dict.fromkeys(sorted(set(first.schema.names) ^ set(second.schema.names)) or ["columns"], APART)
    if len(first) != len(second):
        return {"rows": APART}
    found = {name: column_difference(first, second, name) for name in first.schema.names}
    return {name: apart for name, apart in found.items() if apart}


def column_difference(a: pa.Table, b: pa.Table, name: str) -> float:
    """0.0 where every row has the same value."""
    if a[name].equals(b[name]):
        return 0.0
    field = a.schema.field(name)
    if field.type != b.schema.field(name).type:
        return APART
    if is_tensor(field):
        return largest(read_tensors(a, name), read_tensors(b, name))
    if field.type == IMAGE_TYPE:
        pairs = zip(a[name].to_pylist(), b[name].to_pylist(), strict=True)
        return max(picture_difference((x or {}).get("bytes"), (y or {}).get("bytes")) for x, y in pairs)
    if pa.types.is_floating(field.type):
        return largest(*(np.asarray(table[name].to_pylist(), float) for table in (a, b)))
    return APART  # names, numbers of rows, seeds: near is not the same


def weights_differences(a: Path, b: Path) -> dict[str, float]:
    """Tensors of two checkpoint folders that differ, by file and name; other files by their bytes."""
    files = {path.relative_to(folder) for folder in (a, b) for path in folder.rglob("*") if path.is_file()}
    found: dict[str, float] = {}
    for name in sorted(files):
        if not ((a / name).is_file() and (b / name).is_file()):
            found[name.as_posix()] = APART
        elif (a / name).read_bytes() == (b / name).read_bytes():
            continue
        elif name.suffix == ".safetensors":
            found |= {f"{name.parent.as_posix()} {key}": x for key, x in _tensors(a / name, b / name).items() if x}
        else:
            found[name.as_posix()] = APART
    return found


def picture_difference(a: bytes | None, b: bytes | None) -> float:
    """Of the pixel that differs most, in 0..1."""
    if a == b:
        return 0.0
    if a is None or b is None:
        return APART
    return largest(_pixels(a), _pixels(b)) / 255


def largest(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """The largest absolute difference; numbers that are not finite are only near the same ones."""
    if a.shape != b.shape:
        return APART
    first, second = a.astype(np.float64), b.astype(np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    if same.all():
        return 0.0
    apart = np.abs(first[~same] - second[~same])
    return float(np.nan_to_num(apart, nan=APART).max())


def _pixels(data: bytes) -> npt.NDArray[np.float64]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("RGB"), float)
    except OSError:
        return np.empty(0)


def _tensors(a: Path, b: Path) -> dict[str, float]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        first, second = load_file(a), load_file(b)
    except (SafetensorError, KeyError, TypeError) as error:  # bfloat16 is no type of numpy
        raise ArtifactError(f"cannot be compared: {error}", where=str(a), fix="compare digests only") from error
    if first.keys() != second.keys():
        return dict.fromkeys(sorted(first.keys() ^ second.keys()), APART)
    return {name: largest(first[name], second[name]) for name in first}
