"""The prepare room's answer is kept beside the data, and stands only for its own request of the same files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from spin.core.errors import ArtifactError, DataError
from spin.core.layout import RealCache, RunFolder, RunsRoot
from spin.core.store import discard, is_intact
from spin.prepare import room
from spin.prepare.prepared import is_prepared, read_prepared, write_prepared
from spin.prepare.request import PrepareRequest, PrepareResult
from spin.prepare.room import run
from tests.digits import export_digits
from tests.prepare.conftest import MakeRequest


@pytest.fixture
def request_of(tmp_path: Path) -> PrepareRequest:
    return PrepareRequest(
        runs_root=tmp_path, run="r", source="miniature", path=None, image_column="image", caption_column="text",
        target="winners", rows=8, held_out_share=0.1, max_bad_share=0.1, max_image_pixels=10**8, resolution=None,
        base=Path("/base"), base_digest="0" * 64, seed=0, device="cpu", threads=1,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunsRoot(tmp_path).run("r")


def answer(world, folder: RunFolder) -> PrepareResult:
    """An answer about data that stands: the session's own."""
    folder.prompts.parent.mkdir(parents=True)
    for path in (world.prompts, world.prompts.with_name(f"{world.prompts.name}.manifest.json")):
        (folder.prompts.parent / path.name).write_bytes(path.read_bytes())
    return PrepareResult(folder.prompts, world.cache.path, "d" * 16, {"train": 8}, {"no caption": 1}, 392, 7.5)


def test_the_answer_comes_back_without_what_only_that_call_did(world, folder, request_of) -> None:
    given = answer(world, folder)
    write_prepared(folder, request_of, given)
    assert is_prepared(folder, request_of)
    assert read_prepared(folder) == replace(given, encoded=0, seconds=0.0)


@pytest.mark.parametrize("change", [{"rows": 9}, {"base_digest": "1" * 64}, {"target": "clean"}, {"seed": 1}])
def test_another_request_is_not_prepared(world, folder, request_of, change) -> None:
    write_prepared(folder, request_of, answer(world, folder))
    assert not is_prepared(folder, replace(request_of, **change))


def test_where_it_is_encoded_is_no_other_request(world, folder, request_of) -> None:
    write_prepared(folder, request_of, answer(world, folder))
    assert is_prepared(folder, replace(request_of, device="cuda", threads=4))


def test_lost_data_is_not_prepared(world, folder, request_of) -> None:
    write_prepared(folder, request_of, answer(world, folder))
    discard(folder.prompts)
    assert not is_prepared(folder, request_of)


def test_nothing_kept_is_said(folder) -> None:
    with pytest.raises(ArtifactError, match="never finished"):
        read_prepared(folder)


@pytest.fixture
def own(make_request: MakeRequest, tmp_path: Path) -> PrepareRequest:
    """A request that was answered, and the answer kept."""
    request = make_request(path=export_digits(tmp_path / "digits", 30), run="own")
    write_prepared(RunsRoot(request.runs_root).run("own"), request, run(request))
    return request


def only_as_before(request: PrepareRequest, monkeypatch: pytest.MonkeyPatch) -> PrepareResult:
    """The answer where reading the data again is no way to it."""

    def read(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("the data is read again")

    with monkeypatch.context() as patched:
        patched.setattr(room, "read_own_data", read)
        return run(request)


def test_files_that_are_as_they_were_are_not_read_again(own: PrepareRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run(own)
    again = only_as_before(own, monkeypatch)
    assert replace(again, seconds=before.seconds) == before
    assert list(again.rows) == list(before.rows) == ["train", "validation", "test"]
    assert again.encoded == 0


def test_changed_files_are_read_and_the_run_refuses_other_data(own: PrepareRequest) -> None:
    assert own.path is not None
    first, second = sorted(own.path.glob("*.png"))[:2]
    before = first.stat()
    first.write_bytes(second.read_bytes())
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match="run own was prepared from other data"):
        run(own)


def test_files_that_were_only_touched_are_read_again_to_the_same_answer(
    own: PrepareRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own.path is not None
    before = run(own)
    next(own.path.glob("*.png")).touch()
    with pytest.raises(AssertionError, match="the data is read again"):
        only_as_before(own, monkeypatch)
    after = run(own)
    assert after.fingerprint != before.fingerprint
    assert replace(after, seconds=0.0, fingerprint="") == replace(before, seconds=0.0, fingerprint="")


@pytest.mark.parametrize("lost", ["prompts", "quarantine", "prepared", "latents"])
def test_what_is_lost_or_damaged_is_made_again(own: PrepareRequest, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    folder, before = RunsRoot(own.runs_root).run("own"), run(own)
    path = RealCache(before.real).latents if lost == "latents" else getattr(folder, lost)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(AssertionError, match="the data is read again"):
        only_as_before(own, monkeypatch)
    assert replace(run(own), seconds=0.0, encoded=0) == replace(before, seconds=0.0)
    assert lost == "prepared" or is_intact(path)


def test_another_request_reads_the_files_again(own: PrepareRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="the data is read again"):
        only_as_before(replace(own, max_bad_share=0.2), monkeypatch)
