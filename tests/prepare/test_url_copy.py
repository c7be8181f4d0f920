from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from spin.core.errors import DataError
from spin.core.layout import RunsRoot
from spin.prepare import foreign
from spin.prepare.copied import Copied
from spin.prepare.request import PrepareRequest
from spin.prepare.room import run
from spin.prepare.sources import OwnSource
from spin.prepare.url_copy import copied_from_url, copy_from_url
from tests.digits import export_digits, export_digits_table
from tests.pickapic import row, write_pickapic
from tests.prepare.test_web_dataset import pack, with_txt

MakeRequest = Callable[..., PrepareRequest]


class Place(MemoryFileSystem):
    """A file system in memory that counts what is copied from it and fails on demand."""

    protocol = "place"
    copied: ClassVar[list[str]] = []
    lost: ClassVar[list[str]] = []
    closed: ClassVar[bool] = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("place://", "memory://"))

    def get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        Place.copied.append(rpath.rpartition("/")[2])
        if rpath in Place.lost:
            Place.lost.remove(rpath)
            Path(lpath).write_bytes(self.cat_file(rpath)[:10])
            return
        super().get_file(rpath, lpath, **options)

    def find(self, path: str, **options: Any) -> Any:
        if Place.closed:
            raise ConnectionRefusedError(111, "Connection refused: place://user:secret@host/all?token=secret")
        return super().find(path, **options)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    fsspec.register_implementation("place", Place, clobber=True)
    monkeypatch.setattr(foreign, "WAITS", (0.0, 0.0))
    Place.copied, Place.lost, Place.closed = [], [], False
    system = Place()
    system.store.clear()
    yield system
    system.store.clear()


def fill(system: MemoryFileSystem, folder: Path, at: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            system.pipe(f"{at}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def copy(url: str, folder: Path, source: OwnSource = "webdataset") -> Path:
    return copy_from_url(url, source=source, root=RunsRoot(folder / "runs"), progress=lambda *_: None)


def tars(folder: Path, count: int = 3) -> Path:
    for number in range(count):
        pack(folder / "all" / f"part-{number}.tar", with_txt(8 * number, 8 * number + 8))
    return folder / "all"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("source", ["imagefolder", "parquet", "webdataset", "pickapic"])
def test_data_behind_a_url_is_prepared_as_on_this_machine(
    make_request: MakeRequest, tmp_path: Path, place: Place, source: OwnSource
) -> None:
    local = tmp_path / "local"
    if source == "imagefolder":
        export_digits(local, 12, "txt")
    elif source == "parquet":
        export_digits_table(local / "deep" / "a.parquet", 12)
    elif source == "webdataset":
        pack(local / "a.tar", with_txt())
    else:
        write_pickapic(local / "data" / "train-00000-of-00001-ab.parquet", [row(i) for i in range(12)])
    fill(place, local, "/bucket/mine")
    here = run(make_request(source=source, path=local))
    there = run(make_request(source=source, url="place://bucket/mine", run="there"))
    assert (there.data_digest, there.rows, there.encoded) == (here.data_digest, here.rows, 0)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("place://all", ["part-0.tar", "part-1.tar", "part-2.tar"]),
        ("place://all/part-1.tar", ["part-1.tar"]),
        ("place://all/part-*.tar", ["part-0.tar", "part-1.tar", "part-2.tar"]),
        ("place://all/part-{0..1}.tar", ["part-0.tar", "part-1.tar"]),
        ("place://{all,more}/part-0.tar", ["all/part-0.tar", "more/part-0.tar"]),
    ],
)
def test_a_url_is_a_folder_a_file_a_glob_or_a_brace_list(
    tmp_path: Path, place: Place, url: str, found: list[str]
) -> None:
    local = tars(tmp_path)
    fill(place, local, "/all")
    place.pipe("/all/readme.txt", b"not a tar")
    place.pipe("/more/part-0.tar", b"x")
    copied = copy(url, tmp_path)
    assert names(copied) == found
    assert (copied / found[-1]).read_bytes() == place.cat(
        f"/all/{found[-1]}" if "/" not in found[-1] else "/more/part-0.tar"
    )


def test_what_was_copied_is_not_copied_again_and_what_changed_is(tmp_path: Path, place: Place) -> None:
    local = tars(tmp_path)
    fill(place, local, "/all")
    first = copy("place://all", tmp_path)
    assert sorted(Place.copied) == ["part-0.tar", "part-1.tar", "part-2.tar"]
    Place.copied = []
    assert copy("place://all", tmp_path) == first
    assert Place.copied == []
    content = (local / "part-1.tar").read_bytes()
    place.pipe("/all/part-1.tar", content[::-1])  # as long as before
    place.pipe("/all/part-3.tar", b"new")
    place.rm("/all/part-0.tar")
    assert copy("place://all", tmp_path) == first
    assert sorted(Place.copied) == ["part-1.tar", "part-3.tar"]
    assert names(first) == ["part-1.tar", "part-2.tar", "part-3.tar"]
    assert (first / "part-1.tar").read_bytes() == content[::-1]


def test_a_copy_that_comes_short_is_tried_again_and_never_stands_half(tmp_path: Path, place: Place) -> None:
    fill(place, tars(tmp_path), "/all")
    Place.lost = ["/all/part-1.tar"]
    copied = copy("place://all", tmp_path)
    assert Place.copied.count("part-1.tar") == 2
    assert (copied / "part-1.tar").read_bytes() == place.cat("/all/part-1.tar")
    place.pipe("/all/part-2.tar", bytes(range(200)))
    Place.lost = ["/all/part-2.tar"] * 3
    with pytest.raises(DataError, match=r"place://all: cannot copy part-2\.tar: 10 of 200 bytes came; see that it can"):
        copy("place://all", tmp_path)
    assert names(copied) == ["part-0.tar", "part-1.tar"]
    assert [path.name for path in copied.parent.iterdir() if path.name.startswith(".files")] == []
    Place.copied = []
    copy("place://all", tmp_path)
    assert Place.copied == ["part-2.tar"]


def test_where_the_place_cannot_be_asked_a_whole_copy_serves(
    tmp_path: Path, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    fill(place, tars(tmp_path), "/all")
    Place.closed = True
    with pytest.raises(DataError, match=r"place://all: cannot be opened: .*Connection refused"):
        copy("place://all", tmp_path)
    Place.closed = False
    copied = copy("place://all", tmp_path)
    Place.closed = True
    assert copy("place://all", tmp_path) == copied
    assert "is taken as it is" in caplog.text
    (copied / "part-0.tar").unlink()
    with pytest.raises(DataError, match="Connection refused"):
        copy("place://all", tmp_path)


def test_what_stands_of_a_copy_is_told_without_the_network(tmp_path: Path, place: Place) -> None:
    def stands() -> Copied | None:
        return copied_from_url("place://all", source="webdataset", root=RunsRoot(tmp_path / "runs"))

    assert stands() is None
    local = tars(tmp_path)
    fill(place, local, "/all")
    copied = copy("place://all", tmp_path)
    Place.closed = True
    sizes = [(local / f"part-{number}.tar").stat().st_size for number in range(3)]
    assert stands() == Copied(sum(sizes), sum(sizes))
    (copied / "part-1.tar").unlink()
    found = stands()
    assert found == Copied(sizes[0] + sizes[2], sum(sizes))
    assert found.missing_bytes == sizes[1]
    listing = copied.parent / "listing.json"
    known = json.loads(listing.read_text())
    listing.write_text(json.dumps({**known, "part-1.tar": [known["part-1.tar"][0], None]}))
    assert stands() == Copied(sizes[0] + sizes[2], None)  # a server that tells no sizes


def test_no_secret_of_a_url_is_shown(tmp_path: Path, place: Place) -> None:
    Place.closed = True
    with pytest.raises(DataError) as caught:
        copy("place://user:secret@host/all?token=secret", tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("place://nothing", "no .tar files there; name a file, a folder, a glob or a brace list"),
        ("place://nothing/part-*.tar", "no .tar files there"),
        ("place://all/part-9.tar", "cannot be opened: "),
        ("nothing://x", "Protocol not known: nothing"),
        ("zip://a::place://all/a.zip", "is a URL of a kind that is not opened"),
        ("reference://all", "is a URL of a kind that is not opened"),
        ("s3://bucket/all", "s3fs"),
    ],
)
def test_a_url_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, place: Place, url: str, problem: str) -> None:
    if url.startswith("s3") and _installed("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(DataError) as caught:
        copy(url, tmp_path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_a_file_that_would_leave_its_folder_is_refused(tmp_path: Path, place: Place) -> None:
    place.store["/all/../../etc/x.tar"] = place.store.setdefault("/all/a.tar", None)
    place.pipe("/all/a.tar", b"x")
    place.store["/all/../../etc/x.tar"] = place.store["/all/a.tar"]
    with pytest.raises(DataError, match=r"a file is called '/all/\.\./\.\./etc/x\.tar'"):
        copy("place://all", tmp_path)


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


@pytest.mark.skipif(not _installed("aiohttp"), reason="fsspec's web files need aiohttp")
def test_files_come_over_http_too(tmp_path: Path) -> None:
    local = tars(tmp_path)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(local.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}/all"
        for url in (f"{base}/part-{{0..2}}.tar", f"{base}/part-0.tar?signature=secret", base):
            copied = copy(url, tmp_path)
            assert all((copied / name).read_bytes() == (local / name).read_bytes() for name in names(copied))
            assert len(names(copied)) == (1 if "?" in url else 3)
    finally:
        server.shutdown()
        server.server_close()
