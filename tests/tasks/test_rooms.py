"""A room that stays, one in several processes, and their ends: by an error, a signal, a cancel, a lost parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from spin.core.errors import ArtifactError, DataError, TrainingError
from spin.core.failures import RoomEnded
from tasks.process_group import ProcessGroup
from tasks.rooms import ResidentRoom, Room, SharedRoom
from tests.core.test_door import assert_gone, is_alive
from tests.tasks.tiny_room import SCRIPT, Answer, Question, noted

pytestmark = pytest.mark.system

HOLDER = """
import sys
from tests.tasks.test_rooms import start
from tests.tasks.tiny_room import Answer, Question
from tasks.rooms import ResidentRoom, SharedRoom
room = SharedRoom("tiny", start, 2) if sys.argv[1] == "shared" else ResidentRoom("tiny", start)
if sys.argv[1] == "idle":
    room.ask(Question("leave", sys.argv[2]), Answer)
    sys.stdin.read()
room.ask(Question("hang", sys.argv[2]), Answer)
"""


def start(arguments: Sequence[str]) -> ProcessGroup:
    return ProcessGroup([sys.executable, "-P", str(SCRIPT), *arguments])


@pytest.fixture
def room() -> Iterator[ResidentRoom]:
    opened = ResidentRoom("tiny", start)
    yield opened
    opened.close()


@pytest.fixture
def shared() -> SharedRoom:
    return SharedRoom("tiny", start, 2)


def test_one_process_serves_every_request_and_tells_progress(room: Room) -> None:
    told: list[tuple[int, int, str]] = []
    answers = [
        room.ask(Question("echo", word), Answer, lambda done, total, note="": told.append((done, total, note)))
        for word in ("a", "b\nc", "\u00e9")
    ]
    assert [(answer.calls, answer.word) for answer in answers] == [(1, "a"), (2, "b\nc"), (3, "\u00e9")]
    assert {answer.pid for answer in answers} != {os.getpid()}
    assert len({answer.pid for answer in answers}) == 1
    assert told == [(1, 2, "rank 0")] * 3


def test_a_process_ends_with_its_room_and_the_next_request_starts_another(room: Room) -> None:
    first = room.ask(Question("echo"), Answer)
    assert is_alive(first.pid)
    room.close()
    assert_gone(first.pid)
    assert room.ask(Question("echo"), Answer).calls == 1


def test_our_own_errors_leave_the_process_at_its_work(room: Room) -> None:
    for name, kind in (("data", DataError), ("commit EIO", ArtifactError), ("nan", TrainingError)):
        with pytest.raises(kind):
            room.ask(Question("raise", name), Answer)
    assert room.ask(Question("echo"), Answer).calls == 4


@pytest.mark.parametrize(("name", "kind"), [("CUDA", RuntimeError), ("EIO", OSError), ("key", RuntimeError)])
def test_any_other_error_ends_the_process_and_the_next_request_starts_another(
    room: Room, name: str, kind: type[Exception]
) -> None:
    first = room.ask(Question("echo"), Answer)
    with pytest.raises(kind):
        room.ask(Question("raise", name), Answer)
    assert_gone(first.pid)
    assert room.ask(Question("echo"), Answer).calls == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGTERM])
def test_a_killed_process_is_named_with_its_signal_and_replaced(room: Room, number: signal.Signals) -> None:
    with pytest.raises(RoomEnded, match=f"^tiny was ended by {number.name}") as error:
        room.ask(Question("kill", number=number), Answer)
    assert error.value.signal == number
    assert room.ask(Question("echo"), Answer).calls == 1


def test_one_that_was_killed_for_memory_perhaps_is_told_which_setting_takes_less(room: Room) -> None:
    with pytest.raises(RoomEnded, match=r"takes the last memory\); if it was that, set tiny\.size=4, in a new run"):
        room.ask(Question("kill", number=signal.SIGKILL), Answer)
    with pytest.raises(RoomEnded, match=r"^tiny was ended by SIGTERM$"):
        room.ask(Question("kill", number=signal.SIGTERM), Answer)


def test_a_process_that_leaves_without_an_answer_is_named_with_its_code(room: Room) -> None:
    with pytest.raises(RoomEnded, match="tiny ended without an answer, exit code 7"):
        room.ask(Question("exit", number=7), Answer)


def test_a_process_that_was_killed_between_two_requests_is_replaced(room: Room) -> None:
    first = room.ask(Question("echo"), Answer)
    os.kill(first.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # with its last thread; not reaped
    assert room.ask(Question("echo"), Answer).calls == 1


def test_an_interrupt_ends_the_whole_process_group(room: Room, tmp_path: Path) -> None:
    def interrupt() -> None:
        noted(tmp_path / "pids")
        os.kill(os.getpid(), signal.SIGINT)

    # a shell's background job starts with SIGINT ignored; a flow on a terminal does not
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        room.ask(Question("hang", str(tmp_path / "pids")), Answer)
    signal.signal(signal.SIGINT, before)
    assert_gone(*noted(tmp_path / "pids"))
    assert room.ask(Question("echo"), Answer).calls == 1


def test_an_error_of_whoever_listens_ends_the_request_too(room: Room, tmp_path: Path) -> None:
    def refuse(done: int, total: int, note: str = "") -> None:
        raise ArtifactError("run was cancelled")

    with pytest.raises(ArtifactError, match="run was cancelled"):
        room.ask(Question("hang", str(tmp_path / "pids")), Answer, refuse)
    assert_gone(*noted(tmp_path / "pids"))


@pytest.mark.parametrize(("kind", "writers"), [("resident", 1), ("idle", 1), ("shared", 2)])
def test_no_process_survives_its_parent_however_that_dies(tmp_path: Path, kind: str, writers: int) -> None:
    command = [sys.executable, "-c", HOLDER, kind, str(tmp_path / "pids")]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE) as parent:
        pids = noted(tmp_path / "pids", writers)
        assert len(pids) == 2 * writers
        assert all(map(is_alive, pids))
        family = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]  # and torchrun itself
        assert set(pids) <= set(family)
        parent.kill()
        assert_gone(*family)


def test_several_processes_take_one_request_and_the_first_answers(shared: Room) -> None:
    told: list[str] = []
    answer = shared.ask(Question("safe path"), Answer, lambda done, total, note="": told.append(note))
    assert (answer.calls, told) == (1, ["rank 0"])
    assert answer.word == "True"  # no file of the current folder can shadow a module


@pytest.mark.parametrize(
    ("name", "kind", "words"), [("nan", TrainingError, "not finite"), ("shapes", RuntimeError, "^The size of tensor a")]
)
def test_an_error_of_any_of_them_ends_all(shared: Room, name: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        shared.ask(Question("raise", name, number=1), Answer)


def test_a_killed_one_is_named_before_what_the_others_saw_of_it(shared: Room, tmp_path: Path) -> None:
    with pytest.raises(RoomEnded, match=r"^process 1 of the training was ended by SIGKILL") as error:
        shared.ask(Question("peer", str(tmp_path / "started"), number=1), Answer)
    assert error.value.signal == signal.SIGKILL
    assert "; if it was that, set tiny.size=4" in str(error.value)


def test_an_interrupt_ends_all_of_them(shared: Room, tmp_path: Path) -> None:
    def refuse(done: int, total: int, note: str = "") -> None:
        noted(tmp_path / "pids", 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared.ask(Question("hang", str(tmp_path / "pids")), Answer, refuse)
    pids = noted(tmp_path / "pids", 2)
    assert len(pids) == 4
    assert_gone(*pids)
