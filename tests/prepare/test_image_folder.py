from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin.core.errors import DataError
from spin.core.rejecting import Rejected
from spin.prepare.candidates import MISSING_FILE, Candidate
from spin.prepare.image_folder import open_image_folder
from tests.digits import Layout, digits, export_digits

WriteFolder = Callable[..., Path]


def candidates(folder: Path, image_column: str = "image", caption_column: str = "text") -> list[Candidate]:
    read: Callable[[], Iterator[Candidate]] = open_image_folder(
        folder, image_column=image_column, caption_column=caption_column
    )
    return list(read())


def refusal(folder: Path, caption_column: str = "text") -> str:
    with pytest.raises(DataError) as caught:
        candidates(folder, caption_column=caption_column)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("layout", ["jsonl", "csv", "parquet", "txt"])
def test_every_layout_gives_the_same_pictures_and_captions(tmp_path: Path, layout: Layout) -> None:
    found = candidates(export_digits(tmp_path / "digits", 12, layout))
    assert [(c.read(), str(c.caption).strip()) for c in found] == digits(12)


def test_a_row_says_in_which_line_of_which_file_it_stands(tmp_path: Path) -> None:
    first = {
        layout: candidates(export_digits(tmp_path / layout, 3, layout))[1].origin for layout in ("jsonl", "csv", "txt")
    }
    assert first == {"jsonl": "metadata.jsonl:2", "csv": "metadata.csv:3", "txt": "digit-0001.png"}


def test_metadata_in_nested_folders_names_pictures_from_where_it_stands(tmp_path: Path) -> None:
    export_digits(tmp_path / "all" / "b" / "deep", 2)
    export_digits(tmp_path / "all" / "a", 3, "csv")
    found = candidates(tmp_path / "all")
    assert [c.origin for c in found] == [
        *(f"a/metadata.csv:{line}" for line in (2, 3, 4)),
        *(f"b/deep/metadata.jsonl:{line}" for line in (1, 2)),
    ]
    assert [c.read() for c in found[3:]] == [content for content, _ in digits(2)]


def test_captions_that_look_like_missing_values_stay_text_in_csv(tmp_path: Path) -> None:
    export_digits(tmp_path, 1, "csv")
    (tmp_path / "metadata.csv").write_text('file_name,text\na.png,NA\nb.png,null\nc.png,7\nd.png,"a, b"\n', "utf-8")
    assert [c.caption for c in candidates(tmp_path)] == ["NA", "null", "7", "a, b"]


def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,a cat\n", "utf-8-sig")
    assert candidates(tmp_path)[0].caption == "a cat"


def test_another_caption_column_can_be_chosen(write_folder: WriteFolder) -> None:
    folder = write_folder({}, [{"file_name": "a.png", "text": "no", "long": "yes"}])
    assert candidates(folder, caption_column="long")[0].caption == "yes"


def test_the_image_column_may_name_the_files_too(write_folder: WriteFolder) -> None:
    folder = write_folder({"a.png": b"content"}, [{"picture": "a.png", "text": "a"}])
    assert candidates(folder, image_column="picture")[0].read() == b"content"


@pytest.mark.parametrize(
    "name", ["gone.png", "", None, 7, "../own/a.png", "/etc/hostname", "a.png/b.png", ".", "a\x00b"]
)
def test_a_row_whose_file_is_not_there_is_rejected_alone(write_folder: WriteFolder, name: object) -> None:
    folder = write_folder(
        {"a.png": b"content"}, [{"file_name": name, "text": "a"}, {"file_name": "a.png", "text": "a"}]
    )
    bad, good = candidates(folder)
    with pytest.raises(Rejected) as caught:
        bad.read()
    assert caught.value.reason == MISSING_FILE
    assert good.read() == b"content"


def test_hidden_files_are_not_part_of_the_data(tmp_path: Path) -> None:
    export_digits(tmp_path, 2, "txt")
    (tmp_path / "._digit-0000.png").write_bytes(b"junk of another system")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "metadata.jsonl").write_text("not json")
    assert len(candidates(tmp_path)) == 2


def test_a_picture_without_its_txt_has_no_caption(tmp_path: Path) -> None:
    export_digits(tmp_path, 3, "txt")
    (tmp_path / "digit-0001.txt").unlink()
    (tmp_path / "digit-0002.txt").write_bytes(b"\xff\xfe\xfa")
    assert [type(c.caption) for c in candidates(tmp_path)] == [str, type(None), bytes]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none: no such folder; set data.path" in refusal(tmp_path / "none")


def test_a_file_is_no_folder_and_a_parquet_file_points_to_its_source(tmp_path: Path) -> None:
    for name, way_out in (("x.png", "the folder around it"), ("x.parquet", "data.source=parquet")):
        (tmp_path / name).write_bytes(b"")
        assert "is a file, not a folder" in refusal(tmp_path / name)
        assert way_out in refusal(tmp_path / name)


def test_a_folder_without_pictures_says_what_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("hello")
    assert "holds no pictures" in refusal(tmp_path)
    assert "metadata.jsonl or metadata.csv or metadata.parquet" in refusal(tmp_path)


def test_pictures_without_any_captions_say_what_is_accepted(tmp_path: Path) -> None:
    export_digits(tmp_path, 3)
    (tmp_path / "metadata.jsonl").unlink()
    assert "3 pictures, but no captions; add metadata.jsonl" in refusal(tmp_path)


@pytest.mark.parametrize("layout", ["jsonl", "csv", "parquet"])
def test_a_wrong_caption_column_names_those_that_are_there(tmp_path: Path, layout: Layout) -> None:
    export_digits(tmp_path, 2, layout)
    assert "no column 'txt'; columns are file_name, text; did you mean data.caption_column=text?" in refusal(
        tmp_path, "txt"
    )
    assert "set data.caption_column to one of them" in refusal(tmp_path, "prompt")


def test_metadata_without_file_names_is_refused(write_folder: WriteFolder) -> None:
    assert "no column 'file_name'; columns are img, text" in refusal(write_folder({}, [{"img": "a.png", "text": "a"}]))


def test_bad_json_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "metadata.jsonl"
    file.write_text('{"file_name": "a.png", "text": "a"}\n\n{"file_name": "b.png", \n', "utf-8")
    assert f"{file}:3: bad JSON" in refusal(tmp_path)


@pytest.mark.parametrize("line", [b"[1, 2]", b'"text"', b"\xff{}", b"{'file_name': 1}", b"[" * 100_000])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metadata.jsonl").write_bytes(
        json.dumps({"file_name": "a", "text": "b"}).encode() + b"\n" + line + b"\n"
    )
    assert "metadata.jsonl:2: " in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("metadata.jsonl", b"", "holds no rows"),
        ("metadata.csv", b"", "holds no rows"),
        ("metadata.csv", b"file_name,text\n", "holds no rows"),
        ("metadata.csv", b"file_name,text\na.png,\xff\xfe\n", "bad CSV"),
        ("metadata.csv", b'file_name,text\na.png,"open\n', "bad CSV"),
        ("metadata.parquet", b"PAR1 not really", "cannot be read as Parquet"),
    ],
)
def test_an_empty_or_broken_metadata_file_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{tmp_path}/{name}" in refusal(tmp_path)
    assert problem in refusal(tmp_path)


def test_two_metadata_files_in_one_folder_are_refused(tmp_path: Path) -> None:
    export_digits(tmp_path, 2, "csv")
    export_digits(tmp_path, 2, "jsonl")
    assert "two metadata files: metadata.csv, metadata.jsonl; keep one" in refusal(tmp_path)


def test_parquet_metadata_without_rows_still_shows_its_columns(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"file_name": pa.array([], pa.string()), "text": pa.array([], pa.string())}),
        tmp_path / "metadata.parquet",
    )
    assert candidates(tmp_path) == []
