"""Differences are those of numbers in their own unit; what is no number is near only to itself."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from safetensors.numpy import save_file

from spin.core.difference import picture_difference, table_differences, weights_differences
from spin.core.errors import ArtifactError
from spin.core.schema import IMAGE_TYPE, image_schema, tensor_column, tensor_field, write_table

TENSOR = tensor_field("latent", (2, 2), "float32")


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (10, level, 30)).save(stream, "PNG")
    return stream.getvalue()


FIELDS = [TENSOR, pa.field("score", pa.float64()), pa.field("name", pa.string()), pa.field("image", IMAGE_TYPE)]


def table(
    *, latent: float = 0.0, score: float | None = 1.0, name: str = "a", level: int = 20, rows: int = 2
) -> pa.Table:
    schema = image_schema(FIELDS, ["image"])
    values = np.zeros((rows, 2, 2), np.float32)
    values[-1, 0, 1] = latent
    columns = [
        tensor_column(values), pa.array([1.0] * (rows - 1) + [score]), pa.array(["x"] * (rows - 1) + [name]),
        pa.array([{"bytes": png(level), "path": None}] * rows, IMAGE_TYPE),
    ]  # fmt: skip
    return pa.table(columns, schema=schema)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, {}),
        ({"latent": 0.25}, {"latent": 0.25}),
        ({"score": 1.5}, {"score": 0.5}),
        ({"score": math.nan}, {"score": math.inf}),
        ({"score": None}, {"score": math.inf}),
        ({"name": "b"}, {"name": math.inf}),
        ({"level": 71}, {"image": 51 / 255}),
        ({"rows": 3}, {"rows": math.inf}),
    ],
)
def test_each_column_has_its_largest_difference(tmp_path: Path, change: dict, found: dict[str, float]) -> None:
    write_table(tmp_path / "a.parquet", table())
    write_table(tmp_path / "b.parquet", table(**change))
    assert table_differences(tmp_path / "a.parquet", tmp_path / "b.parquet") == pytest.approx(found)


def test_a_column_that_one_lacks_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", table())
    write_table(tmp_path / "b.parquet", table().drop_columns(["score"]))
    assert table_differences(tmp_path / "a.parquet", tmp_path / "b.parquet") == {"score": math.inf}


def test_weights_differ_by_tensor_and_other_files_by_their_bytes(tmp_path: Path) -> None:
    for name, weight, config in (("a", 1.0, "{}"), ("b", 1.5, "{ }")):
        (tmp_path / name / "unet").mkdir(parents=True)
        save_file(
            {"w": np.full(3, weight, np.float32), "same": np.zeros(2)}, tmp_path / name / "unet" / "m.safetensors"
        )
        (tmp_path / name / "unet" / "config.json").write_text(config)
    (tmp_path / "b" / "more.json").write_text("{}")
    found = weights_differences(tmp_path / "a", tmp_path / "b")
    assert found == {"unet w": 0.5, "unet/config.json": math.inf, "more.json": math.inf}
    assert weights_differences(tmp_path / "a", tmp_path / "a") == {}
    (tmp_path / "b" / "unet" / "m.safetensors").write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="cannot be compared"):
        weights_differences(tmp_path / "a", tmp_path / "b")


def test_pictures_that_are_none_or_no_pictures_are_far_apart() -> None:
    assert picture_difference(None, None) == 0.0
    assert picture_difference(png(1), None) == math.inf
    assert picture_difference(png(1), b"no picture") == math.inf
