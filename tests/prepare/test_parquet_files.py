from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin.core.errors import DataError
from spin.core.rejecting import Rejected
from spin.prepare.candidates import MISSING_FILE, Candidate
from spin.prepare.parquet_files import open_parquet_files
from tests.digits import digits, export_digits_table

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def candidates(path: Path, image_column: str = "image", caption_column: str = "text") -> list[Candidate]:
    return list(open_parquet_files(path, image_column=image_column, caption_column=caption_column)())


def refusal(path: Path, **columns: str) -> str:
    with pytest.raises(DataError) as caught:
        candidates(path, **columns)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    return str(caught.value)


def write(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def test_one_file_is_read_in_its_order(tmp_path: Path) -> None:
    found = candidates(export_digits_table(tmp_path / "d.parquet", 40))
    assert [(c.read(), c.caption) for c in found] == digits(40)
    assert [c.origin for c in (found[0], found[39])] == ["d.parquet:1", "d.parquet:40"]


def test_a_folder_and_a_glob_give_the_same_rows_with_the_same_origins(tmp_path: Path) -> None:
    export_digits_table(tmp_path / "data" / "b.parquet", 9, start=5)
    export_digits_table(tmp_path / "data" / "a.parquet", 5)
    in_folder, by_glob = candidates(tmp_path / "data"), candidates(tmp_path / "data" / "*.parquet")
    assert [(c.read(), c.caption) for c in in_folder] == digits(9)
    assert [c.origin for c in in_folder] == [c.origin for c in by_glob]
    assert in_folder[5].origin == "b.parquet:1"


def test_a_glob_may_choose_one_file(tmp_path: Path) -> None:
    export_digits_table(tmp_path / "train-0.parquet", 3)
    export_digits_table(tmp_path / "test-0.parquet", 2)
    assert [c.origin for c in candidates(tmp_path / "train-*.parquet")] == [f"train-0.parquet:{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_pictures_may_be_raw_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    contents, captions = zip(*digits(3), strict=True)
    file = write(
        tmp_path / "raw.parquet", picture=pa.array(contents, kind), caption=pa.array(captions, pa.large_string())
    )
    found = candidates(file, image_column="picture", caption_column="caption")
    assert [(c.read(), c.caption) for c in found] == digits(3)


def test_what_the_datasets_library_writes_is_read(tmp_path: Path) -> None:
    import datasets

    contents, captions = zip(*digits(4), strict=True)
    columns = {"image": [{"bytes": c, "path": None} for c in contents], "text": list(captions), "more": [1, 2, 3, 4]}
    features = datasets.Features(image=datasets.Image(), text=datasets.Value("string"), more=datasets.Value("int32"))
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "d.parquet")
    assert [(c.read(), c.caption) for c in candidates(tmp_path / "d.parquet")] == digits(4)


def test_captions_from_a_dictionary_column_are_text(tmp_path: Path) -> None:
    text = pa.array(["a", "b", "a"]).dictionary_encode()
    file = write(tmp_path / "d.parquet", image=pa.array([b"1", b"2", b"3"]), text=text)
    assert [c.caption for c in candidates(file)] == ["a", "b", "a"]


@pytest.mark.parametrize("cell", [None, {"bytes": None, "path": "far/away.png"}, {"bytes": b"", "path": None}])
def test_a_row_without_bytes_is_rejected_alone(tmp_path: Path, cell: Any) -> None:
    images = pa.array([cell, {"bytes": b"x", "path": None}], IMAGE)
    bad, good = candidates(write(tmp_path / "d.parquet", image=images, text=["a", None]))
    with pytest.raises(Rejected) as caught:
        bad.read()
    assert caught.value.reason == MISSING_FILE
    assert good.read() == b"x"
    assert good.caption is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [("none.parquet", "no such file or folder"), ("*.parquet", "no file matches"), (".", "holds no .parquet")],
)
def test_a_path_that_leads_nowhere_is_named(tmp_path: Path, name: str, problem: str) -> None:
    assert problem in refusal(tmp_path / name)
    assert str(tmp_path) in refusal(tmp_path / name)


def test_wrong_columns_name_those_that_are_there(tmp_path: Path) -> None:
    file = export_digits_table(tmp_path / "d.parquet", 2)
    assert "no column 'imgae'; columns are image, text; did you mean data.image_column=image?" in refusal(
        file, image_column="imgae"
    )
    assert "no column 'prompt'; columns are image, text; set data.caption_column" in refusal(
        file, caption_column="prompt"
    )


def test_columns_of_the_wrong_type_are_named_with_their_type(tmp_path: Path) -> None:
    file = write(tmp_path / "d.parquet", image=pa.array([b"1"]), text=["a"], many=[["a", "b"]], n=[1.5])
    assert "column 'text' holds string, not pictures" in refusal(file, image_column="text")
    assert "column 'n' holds double, not text" in refusal(file, caption_column="n")
    assert "not text" in refusal(file, caption_column="many")


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    whole = export_digits_table(tmp_path / "d.parquet", 30).read_bytes()
    (tmp_path / "d.parquet").write_bytes(whole[:-100])
    assert f"{tmp_path}/d.parquet: cannot be read as Parquet" in refusal(tmp_path / "d.parquet")


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    whole = bytearray(export_digits_table(tmp_path / "d.parquet", 30).read_bytes())
    whole[4:60] = b"\xff" * 56
    (tmp_path / "d.parquet").write_bytes(whole)
    assert f"{tmp_path}/d.parquet: cannot be read as Parquet" in refusal(tmp_path / "d.parquet")


def test_a_loser_is_a_picture_of_the_same_row(tmp_path: Path) -> None:
    (one, _), (two, _) = digits(2)
    images = pa.array([{"bytes": content, "path": None} for content in (one, two)], IMAGE)
    file = write(tmp_path / "a.parquet", image=images, text=["a", "b"], worse=pa.array([two, None], pa.binary()))
    asked = {"image_column": "image", "caption_column": "text"}
    first, second = open_parquet_files(file, **asked, loser_column="worse")()
    assert first.read_loser is not None
    assert second.read_loser is not None
    assert (first.read(), first.read_loser()) == (one, two)
    with pytest.raises(Rejected, match="no picture in the row"):
        second.read_loser()
    assert [c.read_loser for c in open_parquet_files(file, **asked)()] == [None, None]
    with pytest.raises(DataError, match=r"column 'text' holds string, not pictures; set data\.loser_column"):
        open_parquet_files(file, **asked, loser_column="text")
