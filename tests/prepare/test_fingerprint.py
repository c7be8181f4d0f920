"""A fingerprint changes with every file that a source is read from, and with no other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spin.core.errors import DataError
from spin.prepare.fingerprint import fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "deep/b.png", "metadata.jsonl", "one.tar", "two.parquet"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    return tmp_path / "data"


def rewrite_unseen(folder: Path) -> None:
    """Another content of the same size, and the times set back."""
    file = folder / "deep" / "b.png"
    before = file.stat()
    file.write_text("deep/c.png")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replace_by_newer(folder: Path) -> None:
    (folder / "new").write_text("a.png")
    (folder / "new").replace(folder / "a.png")


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda folder: (folder / "deep" / "new.txt").write_text("x"),
    "hidden": lambda folder: (folder / ".hidden.png").write_text("x"),
    "taken away": lambda folder: (folder / "a.png").unlink(),
    "renamed": lambda folder: (folder / "a.png").rename(folder / "c.png"),
    "grown": lambda folder: (folder / "metadata.jsonl").write_text("longer than before"),
    "rewritten": rewrite_unseen,
    "replaced": replace_by_newer,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_of_a_folder_shows(folder: Path, change: Callable[[Path], object]) -> None:
    before = fingerprint(folder, source="imagefolder")
    assert before == fingerprint(folder, source="imagefolder") != ""
    change(folder)
    assert fingerprint(folder, source="imagefolder") not in (before, "")


@pytest.mark.parametrize(
    ("source", "own"), [("parquet", "two.parquet"), ("pickapic", "two.parquet"), ("webdataset", "one.tar")]
)
def test_files_of_another_kind_are_not_the_source(folder: Path, source: str, own: str) -> None:
    before = fingerprint(folder, source=source)
    (folder / "a.png").write_text("another")
    assert fingerprint(folder, source=source) == before
    (folder / own).write_text("another")
    assert fingerprint(folder, source=source) != before


def test_a_link_counts_as_the_file_behind_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_text("x")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "nowhere.png").symlink_to(tmp_path / "nowhere.png")
    before = fingerprint(folder, source="imagefolder")
    (tmp_path / "elsewhere.png").write_text("xy")
    assert fingerprint(folder, source="imagefolder") not in (before, "")


def test_what_cannot_be_told_has_none(folder: Path, tmp_path: Path) -> None:
    assert fingerprint(None, source="imagefolder") == ""
    assert fingerprint(None, source="miniature") == ""
    assert fingerprint(tmp_path / "gone", source="imagefolder") == ""
    (folder / "linked").symlink_to(tmp_path)
    assert fingerprint(folder, source="imagefolder") == ""


def test_a_list_of_no_files_is_refused_as_at_the_door(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        fingerprint(tmp_path / "gone", source="parquet")
