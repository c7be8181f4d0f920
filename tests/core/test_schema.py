from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spin.core.errors import ArtifactError
from spin.core.schema import (
    IMAGE_TYPE,
    PLAN_ROWS,
    PROMPTS,
    SCORES,
    TRAINING_LOG,
    add_digests,
    content_digest,
    image_schema,
    read_table,
    read_tensors,
    tensor_column,
    tensor_field,
    write_rows,
    write_table,
)

RNG = np.random.default_rng(0)


def tensors(values: np.ndarray, name: str = "latent") -> pa.Table:
    field = tensor_field(name, values.shape[1:], str(values.dtype))
    return pa.table(
        [pa.array(range(len(values)), pa.int64()), tensor_column(values)], schema=pa.schema([("n", pa.int64()), field])
    )


def digest(path: Path, table: pa.Table, **values: object) -> str:
    write_table(path, table, **values)
    return content_digest(path)


def png(color: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(stream, "PNG")
    return stream.getvalue()


def sample() -> pa.Table:
    values = RNG.standard_normal((10, 2, 3)).astype(np.float32)
    table = tensors(values)
    images = pa.array([{"bytes": png((n, 0, 0)), "path": None} for n in range(10)], IMAGE_TYPE)
    return table.append_column("name", pa.array([f"row {n}" for n in range(10)])).append_column("image", images)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "float16"])
@pytest.mark.parametrize("shape", [(16, 4, 4), (3,), ()])
def test_tensors_come_back_bit_for_bit(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = (RNG.standard_normal((7, *shape)) * 50).astype(dtype)
    write_table(tmp_path / "a.parquet", tensors(values), row_group_size=3)
    back = read_tensors(read_table(tmp_path / "a.parquet"), "latent")
    assert (back.dtype, back.shape) == (values.dtype, values.shape)
    assert back.tobytes() == values.tobytes()


def test_tensors_of_sliced_filtered_and_joined_tables_are_those_rows() -> None:
    values = RNG.standard_normal((20, 2, 2)).astype(np.float32)
    table = tensors(values)
    assert np.array_equal(read_tensors(table.slice(3, 5), "latent"), values[3:8])
    assert np.array_equal(read_tensors(table.slice(19), "latent"), values[19:])
    joined = pa.concat_tables([table.slice(10, 4), table.slice(0, 2)])
    assert np.array_equal(read_tensors(joined, "latent"), values[[10, 11, 12, 13, 0, 1]])
    mask = pa.array([n % 3 == 0 for n in range(20)])
    assert np.array_equal(read_tensors(table.filter(mask), "latent"), values[::3])
    assert np.array_equal(read_tensors(table.take([5, 2]), "latent"), values[[5, 2]])


@pytest.mark.parametrize("empty", [lambda table: table.slice(0, 0), lambda table: table.schema.empty_table()])
def test_no_rows_are_an_empty_array_of_the_right_shape(tmp_path: Path, empty) -> None:
    table = empty(tensors(np.zeros((4, 2, 3), np.float32)))
    assert read_tensors(table, "latent").shape == (0, 2, 3)
    write_table(tmp_path / "a.parquet", table)
    back = read_tensors(read_table(tmp_path / "a.parquet"), "latent")
    assert (back.shape, back.dtype) == ((0, 2, 3), np.float32)


def test_a_column_of_no_tensors_has_the_width_of_its_field() -> None:
    assert tensor_column(np.zeros((0, 2, 3), np.float32)).type == tensor_field("a", (2, 3), "float32").type


def test_tensors_that_are_not_contiguous_are_packed() -> None:
    values = RNG.standard_normal((4, 2, 3)).astype(np.float32).transpose(0, 2, 1)
    assert np.array_equal(read_tensors(tensors(values), "latent"), values)


def test_the_digest_does_not_depend_on_the_order_of_rows_or_on_row_groups(tmp_path: Path) -> None:
    table = sample()
    whole = digest(tmp_path / "a.parquet", table)
    assert digest(tmp_path / "b.parquet", table.take(list(reversed(range(10))))) == whole
    assert digest(tmp_path / "c.parquet", table, row_group_size=3) == whole


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 10])
def test_the_digests_of_shards_add_up_to_the_digest_of_the_whole(tmp_path: Path, shards: int) -> None:
    table = sample()
    parts = [table.slice(rows[0], len(rows)) for rows in np.array_split(np.arange(10), shards)]
    assert add_digests(digest(tmp_path / f"{n}.parquet", part) for n, part in enumerate(parts)) == digest(
        tmp_path / "whole.parquet", table
    )


def test_the_digest_is_one_known_number(tmp_path: Path) -> None:
    # sha256 of d2:r3:'x'r1:7, the one row {"x": 7} with every part's kind and length
    found = digest(tmp_path / "a.parquet", pa.table({"x": [7]}))
    assert found == "8aa0e1be186791ecabc38d68d8146cb19c7dcca1c166995a4cbd707bddcb10d0"
    assert add_digests([found, "f" * 64]) == f"{int(found, 16) - 1:064x}"  # modulo 2**256


def test_a_changed_value_name_or_number_of_equal_rows_changes_the_digest(tmp_path: Path) -> None:
    tables = [
        pa.table({"x": [1, 2], "y": ["a", "b"]}), pa.table({"x": [1, 2], "y": ["b", "a"]}),
        pa.table({"x": [1, 2], "z": ["a", "b"]}), pa.table({"x": [1, 2, 2], "y": ["a", "b", "b"]}),
        pa.table({"x": [1, None], "y": ["a", "b"]}), pa.table({"x": [1.0, 2.0], "y": ["a", "b"]}),
        pa.table({"x": ["1", "2"], "y": ["a", "b"]}), pa.table({"x": [1, 2], "y": [b"'a'", b"'b'"]}),
    ]  # fmt: skip
    digests = [digest(tmp_path / f"{n}.parquet", table) for n, table in enumerate(tables)]
    assert len(set(digests)) == len(tables)


def test_bytes_that_slide_from_one_column_to_the_next_change_the_digest(tmp_path: Path) -> None:
    one = digest(tmp_path / "1.parquet", pa.table({"a": [b"1\x1fb=2"], "b": [b"3"]}))
    two = digest(tmp_path / "2.parquet", pa.table({"a": [b"1"], "b": [b"2\x1fb=3"]}))
    assert one != two


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    table = sample()
    write_table(tmp_path / "a.parquet", table)
    write_table(tmp_path / "b.parquet", pa.concat_tables([table.slice(0, 4), table.slice(4)]).combine_chunks())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_datasets_opens_what_we_write_with_its_pictures(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = sample()
    fields = [table.schema.field(name) for name in table.column_names]
    write_table(tmp_path / "a.parquet", table.cast(image_schema(fields, ["image"])))
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "c"))[
        "train"
    ]
    assert rows[3]["name"] == "row 3"
    assert np.array_equal(np.asarray(rows[3]["image"]), np.full((4, 4, 3), (3, 0, 0), np.uint8))
    assert rows[3]["latent"] == read_tensors(table, "latent")[3].tobytes()


def test_datasets_opens_tables_without_pictures(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for name, schema in {"prompts": PROMPTS, "plan": PLAN_ROWS, "scores": SCORES, "log": TRAINING_LOG}.items():
        row = {field.name: "x" if field.type == pa.string() else 1 for field in schema}
        write_rows(tmp_path / f"{name}.parquet", schema, [row, row])
        file = str(tmp_path / f"{name}.parquet")
        assert datasets.Dataset.from_parquet(file, cache_dir=str(tmp_path / "c")).num_rows == 2


def test_rows_are_written_in_the_schemas_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", TRAINING_LOG, [{"step": 1, "loss": 0.5}])
    table = read_table(tmp_path / "a.parquet")
    assert table.schema.equals(TRAINING_LOG)
    assert table["margin"].to_pylist() == [None]
    write_rows(tmp_path / "b.parquet", TRAINING_LOG, [])
    assert read_table(tmp_path / "b.parquet").schema.equals(TRAINING_LOG)


def test_only_the_asked_columns_are_read(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", sample())
    assert read_table(tmp_path / "a.parquet", columns=["name"]).column_names == ["name"]
    with pytest.raises(ArtifactError, match="cannot be read as Parquet"):
        read_table(tmp_path / "a.parquet", columns=["nothing"])


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as error:
        read_table(tmp_path / "none.parquet")
    assert str(error.value) == f"{tmp_path}/none.parquet: file is missing; run again; it is made again"


def test_damage_is_one_line_or_harmless_never_wrong_numbers(tmp_path: Path) -> None:
    values = RNG.standard_normal((200, 8)).astype(np.float32)
    write_table(tmp_path / "a.parquet", tensors(values))
    whole = (tmp_path / "a.parquet").read_bytes()
    pages = 200 * 8 * 4
    for position in range(4, len(whole), len(whole) // 60):
        raw = bytearray(whole)
        raw[position] ^= 4
        (tmp_path / "a.parquet").write_bytes(bytes(raw))
        try:
            table = read_table(tmp_path / "a.parquet")
        except ArtifactError as error:
            assert "\n" not in str(error)  # noqa: PT017 both outcomes are right
        else:
            if position < pages:  # page bytes carry a checksum; the footer has none
                assert np.array_equal(read_tensors(table, "latent"), values)


def test_a_file_that_is_not_parquet_is_one_line(tmp_path: Path) -> None:
    for content in (b"", b"PAR1", b"x" * 100, b"PAR1" + bytes(100) + b"PAR1"):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(ArtifactError) as error:
            read_table(tmp_path / "a.parquet")
        assert "\n" not in str(error.value)


def test_no_time_or_host_stands_in_a_file(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", sample())
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert set(metadata.metadata or {}) <= {b"ARROW:schema", b"huggingface"}
