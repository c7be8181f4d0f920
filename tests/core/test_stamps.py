"""What was hashed is not hashed again until somebody touches it; whoever reads the bytes hashes in any case."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from spin.core import stamps, store
from spin.core.errors import ArtifactError
from spin.core.layout import stamp_path
from spin.core.store import commit, discard, is_intact, is_whole, stands, verify

CONTENT: Final = bytes(range(256)) * 2048  # 512 KiB, which is worth a stamp
IDENTITY: Final = {"from": "x"}
SETTLED_SECONDS: Final = 0.05


@pytest.fixture(autouse=True)
def _settled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test need not wait for the coarsest clock: the file systems here tick in 4 ms."""
    monkeypatch.setattr(stamps, "_SETTLED_NS", int(SETTLED_SECONDS * 1e9))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    commit(path, lambda target: target.write_bytes(CONTENT) and None, kind="k", identity=IDENTITY)
    settle()
    return path


def settle() -> None:
    time.sleep(2 * SETTLED_SECONDS)


def counted(hashed: list[str], look: Callable[[], object]) -> int:
    """Files that are hashed by one look."""
    hashed.clear()
    look()
    return len(hashed)


def flip_unseen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a disk does: another byte, and no trace of it in the file's status."""
    before, really = path.stat(), os.fstat
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(
        os, "fstat", lambda descriptor: before if (now := really(descriptor)).st_ino == before.st_ino else now
    )


def test_what_was_hashed_once_is_not_hashed_by_the_next_look(artifact: Path, hashed: list[str]) -> None:
    assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 1
    assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 0
    assert stands(artifact, IDENTITY)
    assert not stands(artifact, {"from": "y"})


def test_who_reads_the_bytes_hashes_them_and_stamps_them_for_the_next_look(artifact: Path, hashed: list[str]) -> None:
    for _ in range(2):
        assert counted(hashed, lambda: verify(artifact)) == 1
        assert counted(hashed, lambda: is_intact(artifact)) == 1
    assert counted(hashed, lambda: verify(artifact, trusting=True)) == 0


@pytest.mark.parametrize("keeps_times", [False, True])
def test_a_written_byte_is_found_also_where_its_times_were_set_back(artifact: Path, keeps_times: bool) -> None:
    assert stands(artifact, IDENTITY)
    before, content = artifact.stat(), bytearray(CONTENT)
    content[1000] ^= 1
    artifact.write_bytes(content)
    if keeps_times:
        os.utime(artifact, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_whole(artifact, identity=IDENTITY)
    assert not stands(artifact, IDENTITY)


def test_a_touched_file_is_hashed_once_and_stamped_again(artifact: Path, hashed: list[str]) -> None:
    stands(artifact, IDENTITY)
    artifact.touch()
    settle()
    assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 1
    assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 0


@pytest.mark.parametrize("damage", [b"", b"0" * 65, None])
def test_a_torn_stamp_counts_as_none(artifact: Path, hashed: list[str], damage: bytes | None) -> None:
    stands(artifact, IDENTITY)
    stamp = stamp_path(artifact)
    stamp.write_bytes(stamp.read_bytes()[:-2] if damage is None else damage)
    assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 1
    assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 0


def test_a_file_that_was_just_written_has_no_stamp(
    artifact: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another write in the same tick of the clock would leave the same status."""
    artifact.write_bytes(CONTENT)
    monkeypatch.setattr(stamps, "_SETTLED_NS", 10**12)  # however slow this machine is
    for _ in range(2):
        assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 1
        assert not stamp_path(artifact).exists()
    monkeypatch.setattr(stamps, "_SETTLED_NS", int(SETTLED_SECONDS * 1e9))
    settle()
    stands(artifact, IDENTITY)
    assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 0


def test_a_file_that_is_touched_while_it_is_hashed_has_no_stamp(
    artifact: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = store.hash_file

    def touching(path: Path) -> str:
        found = really(path)
        path.touch()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store, "hash_file", touching)
        assert stands(artifact, IDENTITY)
    settle()
    assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 1


def test_lost_bits_are_found_by_who_reads_and_then_by_every_look(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stands(artifact, IDENTITY)
    with monkeypatch.context() as patch:
        flip_unseen(artifact, patch)
        assert stands(artifact, IDENTITY)  # nothing tells
        with pytest.raises(ArtifactError, match="bytes differ from the manifest"):
            verify(artifact)
        assert not stamp_path(artifact).exists()
        assert not stands(artifact, IDENTITY)


def test_of_a_folder_only_the_touched_files_are_hashed_again(tmp_path: Path, hashed: list[str]) -> None:
    def write(folder: Path) -> None:
        for name in ("unet", "vae"):
            (folder / name).mkdir(parents=True)
            (folder / name / "weights").write_bytes(CONTENT + name.encode())

    checkpoint = tmp_path / "step-000050"
    commit(checkpoint, write, kind="checkpoint", identity=IDENTITY)
    settle()
    assert counted(hashed, lambda: stands(checkpoint, IDENTITY)) == 2
    os.link(checkpoint / "vae" / "weights", tmp_path / "linked")  # as the next checkpoint does
    settle()
    assert counted(hashed, lambda: stands(checkpoint, IDENTITY)) == 1
    assert counted(hashed, lambda: stands(checkpoint, IDENTITY)) == 0
    (checkpoint / "unet" / "weights").unlink()
    assert not stands(checkpoint)


def test_a_small_artifact_is_hashed_at_every_look_and_leaves_no_stamp(tmp_path: Path, hashed: list[str]) -> None:
    path = tmp_path / "a.txt"
    commit(path, lambda target: target.write_bytes(b"x") and None, kind="k", identity=IDENTITY)
    settle()
    for _ in range(2):
        assert counted(hashed, lambda: stands(path, IDENTITY)) == 1
    assert not stamp_path(path).exists()


def test_a_stamp_goes_with_its_artifact_and_is_no_part_of_it(artifact: Path) -> None:
    manifest = verify(artifact)
    assert stamp_path(artifact).exists()
    assert verify(artifact) == manifest
    discard(artifact)
    assert {path.name for path in artifact.parent.iterdir()} == {".commit.lock"}


def test_an_artifact_that_takes_the_place_of_another_is_hashed(artifact: Path, hashed: list[str]) -> None:
    stands(artifact, IDENTITY)
    commit(artifact, lambda target: target.write_bytes(CONTENT) and None, kind="k", identity={"from": "y"})
    settle()
    assert counted(hashed, lambda: stands(artifact, {"from": "y"})) == 1


def test_where_no_stamp_can_be_written_every_look_hashes(artifact: Path, hashed: list[str]) -> None:
    stamp_path(artifact).mkdir()
    for _ in range(2):
        assert counted(hashed, lambda: stands(artifact, IDENTITY)) == 1
    assert stands(artifact, IDENTITY)
