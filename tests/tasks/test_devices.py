"""A GPU has one owner on a machine: a process, until it lets go or dies in whatever way."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spin.core.errors import ConfigError
from tasks import devices
from tasks.devices import UNLISTED, Card, lock_files, lock_folder, nvidia_cards, owned, visible_gpus

ROOT = Path(__file__).parents[2]
CARDS = (Card("0", "GPU-aaaa-1"), Card("1", "GPU-bbbb-2"), Card("2", "GPU-bbcc-3"))
HOLDER = """
import sys
from tasks.devices import Card, owned
cards = tuple(Card(str(i), name) for i, name in enumerate(("GPU-aaaa-1", "GPU-bbbb-2", "GPU-bbcc-3")))
count = None if sys.argv[1] == "all" else int(sys.argv[1])
with owned("cuda", count=count, listing=lambda: cards) as names:
    print(*names, flush=True)
    sys.stdin.readline()
"""


def three() -> tuple[Card, ...]:
    return CARDS


def none() -> tuple[Card, ...]:
    return ()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "locks"


def other_process(count: str, visible: str = "0,1,2") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, count], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": visible},
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_free(name: str) -> bool:
    """Whether nobody holds the lock, this process included."""
    with (lock_folder() / f"gpu-{name}.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ("GPU-aaaa-1", "GPU-bbbb-2", "GPU-bbcc-3")),
        ("1", ("GPU-bbbb-2",)),
        ("2, 0", ("GPU-bbcc-3", "GPU-aaaa-1")),
        ("GPU-bbbb-2,1", ("GPU-bbbb-2",)),
        ("GPU-bbc", ("GPU-bbcc-3",)),
        ("GPU-bb", ("GPU-bb",)),  # of two: CUDA refuses it
        ("0,-1,2", ("GPU-aaaa-1",)),
        ("MIG-GPU-aaaa-1/7/0,7", ("MIG-GPU-aaaa-1/7/0", "7")),
    ],
)
def test_a_card_has_one_name_however_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, names: tuple[str, ...]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus(three) == names


def test_without_a_listing_the_words_are_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible_gpus(none) == (UNLISTED,)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert visible_gpus(none) == ("3", "1")


@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_process_that_may_use_no_gpu_is_refused_one(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES: shows no GPU"), owned("cuda", listing=three):
        pass


def test_the_listing_is_read_as_nvidia_smi_prints_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_cards() == ()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aaaa-1'\necho '10, GPU-bbbb-2'\n")
    program.chmod(0o755)
    assert nvidia_cards() == (Card("0", "GPU-aaaa-1"), Card("10", "GPU-bbbb-2"))
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert nvidia_cards() == ()


def test_a_cpu_is_nobodys(own_folder: Path) -> None:
    with owned("cpu", count=None, listing=three) as names:
        assert names == ()
    assert not own_folder.exists()


def test_the_first_is_owned_or_all_and_free_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    with owned("cuda", listing=three) as names:
        assert names == ("GPU-bbcc-3",)
        assert (is_free("GPU-bbcc-3"), is_free("GPU-aaaa-1")) == (False, True)
    with owned("cuda:0", count=None, listing=three) as names:
        assert names == ("GPU-bbcc-3", "GPU-aaaa-1")
        assert (is_free("GPU-bbcc-3"), is_free("GPU-aaaa-1"), is_free("GPU-bbbb-2")) == (False, False, True)
    assert is_free("GPU-bbcc-3")
    assert is_free("GPU-aaaa-1")


def test_a_block_that_fails_lets_go() -> None:
    with pytest.raises(KeyError), owned("cuda", listing=three):
        raise KeyError
    assert is_free("GPU-aaaa-1")


def test_one_process_asks_twice_and_holds_until_it_has_let_go_twice() -> None:
    with owned("cuda", count=None, listing=three):
        with owned("cuda", listing=three) as names:
            assert names == ("GPU-aaaa-1",)
        assert not is_free("GPU-aaaa-1")
    assert is_free("GPU-aaaa-1")


def test_another_process_waits_and_tells_once_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    with other_process("1", "1") as holder:
        assert said(holder) == "GPU-bbbb-2"
        with owned("cuda", listing=three) as names:  # another card is free
            assert names == ("GPU-aaaa-1",)
        with other_process("1", "GPU-bbbb-2") as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(timeout=3)
            holder.communicate("\n")
            assert said(waiting) == "GPU-bbbb-2"
            waiting.communicate("\n")
    assert (holder.returncode, waiting.returncode) == (0, 0)


def test_who_waits_says_so_and_owns_the_card_when_its_holder_is_killed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KillsOnWarning(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            holder.send_signal(signal.SIGKILL)

    lines: list[str] = []
    with other_process("all") as holder:
        said(holder)
        handler = KillsOnWarning()
        devices.log.addHandler(handler)
        try:
            with owned("cuda", listing=three) as names:
                assert names == ("GPU-aaaa-1",)
                assert (lock_folder() / "gpu-GPU-aaaa-1.lock").read_text() == str(os.getpid())
        finally:
            devices.log.removeHandler(handler)
    assert lines == [f"waiting for GPU GPU-aaaa-1, held by pid {holder.pid}"]


def test_who_waits_long_says_so_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(devices, "_REMIND_SECONDS", 0.3)

    class FreesOnThird(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            if len(lines) == 3:
                holder.send_signal(signal.SIGKILL)

    lines: list[str] = []
    with other_process("1") as holder:
        said(holder)
        handler = FreesOnThird()
        devices.log.addHandler(handler)
        try:
            with owned("cuda", listing=three):
                pass
        finally:
            devices.log.removeHandler(handler)
    assert len(lines) == 3


def test_cards_are_taken_in_one_order_whatever_order_they_are_named_in() -> None:
    """Two that want the same cards in opposite orders never wait for each other."""
    orders = ("0,1,2", "2,1,0") * 4
    everybody = [other_process("all", order) for order in orders]
    for process in everybody:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=120)[0].split()[0] for process in everybody] == [
        CARDS[int(order[0])].uuid for order in orders
    ]


def test_who_waits_for_several_holds_those_before_and_none_behind() -> None:
    with other_process("1", "1") as holder:
        assert said(holder) == "GPU-bbbb-2"
        with other_process("all", "2,1,0") as waiting:
            while is_free("GPU-aaaa-1"):
                assert waiting.poll() is None
            assert is_free("GPU-bbcc-3")
            holder.communicate("\n")
            assert said(waiting) == "GPU-bbcc-3 GPU-bbbb-2 GPU-aaaa-1"
            waiting.communicate("\n")


def test_a_card_stays_owned_until_the_child_that_uses_it_has_ended_too() -> None:
    parent = (
        "import subprocess, sys\n"
        "from tasks.devices import Card, lock_files, owned\n"
        "with owned('cuda', listing=lambda: (Card('0', 'GPU-aaaa-1'),)) as names:\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=lock_files(names))\n"
        "    print(child.pid, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        child = int(said(holder))
        holder.kill()
    assert not is_free("GPU-aaaa-1")
    os.kill(child, signal.SIGKILL)
    with owned("cuda", listing=three) as names:
        assert len(lock_files(names)) == 1


def test_who_lets_go_does_so_for_a_child_that_lives_on_too() -> None:
    with owned("cuda", listing=three) as names:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=lock_files(names))
    assert child.poll() is None
    assert is_free("GPU-aaaa-1")
    child.communicate()


def test_what_clears_tmp_of_old_files_passes_the_locks_by(own_folder: Path) -> None:
    """systemd-tmpfiles locks each folder before it looks into it, and leaves one that it cannot lock."""
    cleaner = os.open(lock_folder(), os.O_RDONLY)
    try:
        with owned("cuda", listing=three), pytest.raises(BlockingIOError):
            fcntl.flock(cleaner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(cleaner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(cleaner)


def test_the_folder_is_this_users_alone(own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lock_folder() == own_folder
    assert own_folder.stat().st_mode & 0o777 == 0o700
    own_folder.chmod(0o777)
    lock_folder()
    assert own_folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", str(tmp_path / "link"))
    with pytest.raises(ConfigError, match="link: is not a folder of this user; set SPIN_DIFFUSION_LOCKS"):
        lock_folder()
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", "/proc/none")
    with pytest.raises(ConfigError, match="/proc/none: cannot be used: No such file"):
        lock_folder()
    monkeypatch.delenv("SPIN_DIFFUSION_LOCKS")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert lock_folder().name == f"spin-diffusion-{os.getuid()}"
    assert lock_folder().parent != tmp_path


def test_a_name_with_slashes_is_one_file(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-aaaa/7/0")
    with owned("cuda", listing=three):
        assert [path.name for path in own_folder.iterdir()] == ["gpu-MIG-GPU-aaaa_7_0.lock"]
