from __future__ import annotations

import errno
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from spin.core import store
from spin.core.draft import draft_path
from spin.core.errors import ArtifactError, DataError
from spin.core.layout import manifest_path
from spin.core.schema import content_digest, write_table

Writer = Callable[[Path], None]


def text(content: str) -> Writer:
    return lambda path: path.write_text(content, "utf-8") and None


def folder(**contents: str) -> Writer:
    def write(path: Path) -> None:
        for name, content in contents.items():
            target = path / name.replace("__", "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, "utf-8")

    return write


def table(rows: int) -> Writer:
    return lambda path: write_table(path, pa.table({"x": list(range(rows))}))


def commit(path: Path, write: Writer, **values: object) -> store.Commit:
    return store.commit(path, write, kind="thing", **values)


def flip_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def names(path: Path) -> set[str]:
    return {p.name for p in path.iterdir()} - {".commit.lock"}


def one_line(error: pytest.ExceptionInfo[ArtifactError], *words: str) -> bool:
    message = str(error.value)
    return "\n" not in message and all(word in message for word in words)


def test_a_commit_leaves_the_artifact_and_its_manifest_and_nothing_else(tmp_path: Path) -> None:
    result = commit(tmp_path / "a.txt", text("hello"), identity={"from": 1}, environment=lambda: {"seconds": 2.0})
    assert names(tmp_path) == {"a.txt", "a.txt.manifest.json"}
    assert result.won
    assert not result.conflicting
    assert store.verify(tmp_path / "a.txt") == store.read_manifest(tmp_path / "a.txt") == result.manifest
    assert result.manifest.files[0].size_bytes == 5
    assert result.manifest.environment == {"seconds": 2.0}


def test_the_first_commit_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    first = commit(path, text("first"))
    inode = path.stat().st_ino
    second = commit(path, text("first"))
    assert (first.won, second.won, second.conflicting) == (True, False, False)
    assert path.stat().st_ino == inode


def test_a_loser_with_other_content_conflicts_and_the_winner_stays_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    commit(path, text("first"))
    before = path.read_bytes(), manifest_path(path).read_bytes()
    second = commit(path, text("other"))
    assert (second.won, second.conflicting) == (False, True)
    assert (path.read_bytes(), manifest_path(path).read_bytes()) == before
    assert names(tmp_path) == {"a.txt", "a.txt.manifest.json"}


def test_equal_content_in_other_bytes_is_no_conflict(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    commit(path, text("1 2"), digest=lambda p: "same")
    assert not commit(path, text("2 1"), digest=lambda p: "same").conflicting
    assert path.read_text() == "1 2"


def test_of_two_processes_at_once_exactly_one_wins(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from spin.core.store import commit;"
        "c = commit(Path(sys.argv[1]), lambda p: p.write_text(sys.argv[2]) and None, kind='k');"
        "print(c.won, c.conflicting)"
    )
    path = tmp_path / "a.txt"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    said = [child.communicate(timeout=60)[0].split() for child in children]
    assert sorted(said) == [["False", "True"], ["False", "True"], ["True", "False"]]
    assert store.is_intact(path)
    assert names(tmp_path) == {"a.txt", "a.txt.manifest.json"}


def test_a_file_without_a_manifest_does_not_exist_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("half")
    assert store.read_manifest(path) is None
    assert not store.is_whole(path)
    with pytest.raises(ArtifactError) as error:
        store.verify(path)
    assert one_line(error, str(path), "never finished")
    assert commit(path, text("whole")).won
    assert path.read_text() == "whole"


def test_a_flipped_bit_is_found_by_hashing_though_size_and_footer_are_right(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    commit(path, table(500), digest=content_digest)
    flip_bit(path)
    assert store.is_whole(path)
    assert not store.is_intact(path)
    with pytest.raises(ArtifactError) as error:
        store.verify(path)
    assert one_line(error, str(path), "bytes differ from the manifest")


def test_a_damaged_artifact_does_not_win_over_a_whole_copy(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    commit(path, table(500), digest=content_digest)
    flip_bit(path)
    again = commit(path, table(500), digest=content_digest)
    assert again.won
    assert store.is_intact(path)


@pytest.mark.parametrize("damage", ["truncated", "no footer", "empty", "gone"])
def test_a_torn_parquet_file_is_not_whole(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    commit(path, table(500))
    raw = path.read_bytes()
    torn = {"truncated": raw[: len(raw) // 2], "no footer": raw[:-4] + bytes(4), "empty": b""}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(torn[damage])
    assert not store.is_whole(path)
    assert not store.is_intact(path)
    assert commit(path, table(500)).won
    assert store.is_intact(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'{"files": 3}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_manifest_is_one_line_and_the_artifact_is_made_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    commit(path, text("hello"))
    manifest_path(path).write_bytes(content)
    with pytest.raises(ArtifactError) as error:
        store.read_manifest(path)
    assert one_line(error, str(manifest_path(path)), "manifest is damaged")
    assert not store.is_whole(path)
    assert commit(path, text("hello")).won
    assert store.is_intact(path)


def test_no_flipped_bit_in_a_manifest_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    commit(path, text("hello"), identity={"from": "x"})
    before = store.read_manifest(path)
    whole = manifest_path(path).read_bytes()
    for position in range(len(whole)):
        raw = bytearray(whole)
        raw[position] ^= 1
        manifest_path(path).write_bytes(bytes(raw))
        if store.is_intact(path):  # a blank that became another blank
            assert store.read_manifest(path) == before


def test_an_artifact_made_from_something_else_counts_as_missing_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    commit(path, text("old"), identity={"opponent": "a"})
    assert store.is_whole(path, identity={"opponent": "a"})
    assert not store.is_whole(path, identity={"opponent": "b"})
    assert commit(path, text("new"), identity={"opponent": "b"}).won
    assert path.read_text() == "new"
    assert store.is_whole(path, identity={"opponent": "b"})


def test_an_identity_of_tuples_is_found_again(tmp_path: Path) -> None:
    identity = {"shards": (1, 2), "nested": {"betas": (0.9, 0.999)}}
    commit(tmp_path / "a.txt", text("x"), identity=identity)
    assert store.is_whole(tmp_path / "a.txt", identity=identity)


def test_folders_are_committed_whole(tmp_path: Path) -> None:
    path = tmp_path / "step-000050"
    result = commit(path, folder(model="m", unet__weights="w", unet__deep__config="c"))
    assert [record.name for record in result.manifest.files] == ["model", "unet/deep/config", "unet/weights"]
    assert store.is_intact(path)
    assert not commit(path, folder(model="m", unet__weights="w", unet__deep__config="c")).conflicting
    assert commit(path, folder(model="m", unet__weights="other")).conflicting
    (path / "unet" / "weights").unlink()
    assert not store.is_whole(path)
    with pytest.raises(ArtifactError, match="file is missing"):
        store.verify(path)
    assert commit(path, folder(model="m", unet__weights="other")).won
    assert not (path / "unet" / "deep").exists()


def test_an_empty_folder_that_is_gone_is_not_whole(tmp_path: Path) -> None:
    commit(tmp_path / "empty", lambda path: path.mkdir())
    assert store.is_whole(tmp_path / "empty")
    (tmp_path / "empty").rmdir()
    assert not store.is_whole(tmp_path / "empty")


def test_a_discarded_artifact_is_gone_with_its_manifest(tmp_path: Path) -> None:
    for name, write in (("a.txt", text("x")), ("b", folder(model="m"))):
        commit(tmp_path / name, write)
        store.discard(tmp_path / name)
        store.discard(tmp_path / name)  # and again
    assert names(tmp_path) == set()


def test_leftovers_of_dead_writers_are_swept_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    prefix = f".a.txt.tmp-{socket.gethostname()}"
    swept = [f"{prefix}-{dead.pid}", f"{prefix}-{dead.pid}.manifest", f"{prefix}-{os.getpid()}"]
    kept = [f"{prefix}-{os.getppid()}", f"{prefix}-1-{dead.pid}", f".a.txt.tmp-elsewhere-{dead.pid}"]
    kept += [f".b.txt.tmp-{socket.gethostname()}-{dead.pid}"]
    for name in swept[:2] + kept:
        (tmp_path / name).write_text("half")
    (tmp_path / swept[2]).mkdir()
    commit(tmp_path / "a.txt", text("x"))
    assert names(tmp_path) == {"a.txt", "a.txt.manifest.json", *kept}


def test_an_error_of_the_writer_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.write_text("half")
        raise error

    for error in (DataError("bad row"), RuntimeError("out of memory"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            commit(tmp_path / "a.txt", write)
        assert names(tmp_path) == set()


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError) as error:
        commit(tmp_path / "file" / "a.txt", text("x"))
    assert one_line(error, "cannot write")
    assert store.read_manifest(tmp_path / "file" / "a.txt") is None
    with pytest.raises(ArtifactError) as error:
        commit(tmp_path / "a.txt", lambda path: None)  # wrote nothing
    assert one_line(error, "cannot write")


def test_every_file_and_folder_is_synced_before_it_is_linked(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from spin.core import store, draft;"
        "real = os.fsync;"
        "os.fsync = lambda d: (print('fsync', os.path.basename(os.readlink(f'/proc/self/fd/{d}'))), real(d));"
        "sys.addaudithook(lambda event, args: print(args[0]) if event == 'spin.store' else None);"
        "w = lambda p: ((p / 'unet').mkdir(parents=True), (p / 'unet' / 'weights').write_text('w'));"
        f"store.commit(Path({str(tmp_path / 'c')!r}), w, kind='k')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line.split(".tmp-")[0] for line in done.stdout.splitlines()]
    assert lines == [
        "before-write", "after-write", "fsync weights", "fsync unet", "fsync .c", "after-fsync", "fsync .c",
        f"fsync {tmp_path.name}", "after-link", "before-manifest", f"fsync {tmp_path.name}", "after-manifest",
    ]  # fmt: skip
    assert tuple(line for line in lines if "-" in line and "fsync " not in line) == store.COMMIT_POINTS


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def write_torch(path: Path) -> None:
    import torch

    path.mkdir()
    torch.save(torch.zeros(200_000), path / "optimizer.pt")


def write_safetensors(path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    path.mkdir()
    save_file({"a": np.zeros(200_000)}, path / "unet.safetensors")


FULL = {
    "text": text("x" * 400_000),
    "parquet": lambda path: write_table(path, pa.table({"x": [os.urandom(400_000)]})),
    "torch": write_torch,
    "safetensors": write_safetensors,
}


@pytest.mark.parametrize("kind", FULL)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(small_disk: Path, kind: str) -> None:
    path = small_disk / "artifact"
    with pytest.raises(ArtifactError) as error:
        commit(path, FULL[kind])
    assert one_line(error, str(path), "No space left on device", "free space")
    assert names(small_disk) == set()
    del error  # its frames hold torch's open file
    gc.collect()
    commit(small_disk / "small", text("x"))  # and the space is free again
    assert store.is_intact(small_disk / "small")


def test_a_disk_that_is_full_when_the_manifest_is_written_leaves_no_artifact(small_disk: Path) -> None:
    (small_disk / ".commit.lock").touch()

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            while True:
                try:
                    stream.write(bytes(4096))
                    stream.flush()
                except OSError:
                    break

    with pytest.raises(ArtifactError, match="No space left on device"):
        commit(small_disk / "a.txt", write)
    assert names(small_disk) == set()


def in_child(work: Callable[[], None]) -> int:
    """Exit code of a forked child: 0 where `work` returned."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
        os._exit(0)
    except ArtifactError as error:
        os._exit(2 if "\n" not in str(error) and os.strerror(errno.EFBIG) in str(error) else 3)
    except BaseException:
        os._exit(4)


def test_a_file_over_the_limit_of_its_process_is_one_line_too(tmp_path: Path) -> None:
    import resource

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
        commit(tmp_path / "a.txt", text("x" * 400_000))

    assert in_child(work) == 2
    assert names(tmp_path) == set()


def test_a_writer_killed_at_any_point_leaves_a_whole_artifact_or_none(tmp_path: Path) -> None:
    for number, point in enumerate(store.COMMIT_POINTS):
        path = tmp_path / point / "a.txt"

        def work(point: str = point, path: Path = path) -> None:
            def kill(event: str, args: tuple[object, ...]) -> None:
                if event == "spin.store" and args[0] == point:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(kill)
            commit(path, text("hello"))

        assert in_child(work) == -signal.SIGKILL
        assert store.is_whole(path) == store.is_intact(path) == (number == len(store.COMMIT_POINTS) - 1)
        assert not commit(path, text("hello")).conflicting
        assert store.is_intact(path)
        assert names(path.parent) == {"a.txt", "a.txt.manifest.json"}


def test_a_draft_is_hidden_and_beside_its_artifact(tmp_path: Path) -> None:
    draft = draft_path(tmp_path / "a.parquet")
    assert draft.name == f".a.parquet.tmp-{socket.gethostname()}-{os.getpid()}"
    assert draft.parent == tmp_path


def test_a_manifest_is_json_that_a_person_can_read(tmp_path: Path) -> None:
    commit(tmp_path / "a.txt", text("x"), identity={"plan": "p"})
    raw = json.loads(manifest_path(tmp_path / "a.txt").read_text("utf-8"))
    assert set(raw) == {"kind", "files", "content_digest", "identity", "environment", "checksum"}
