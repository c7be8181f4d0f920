"""A process is heard to its last word, and ended with all that it started."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from tasks import process_group
from tasks.process_group import ProcessGroup
from tests.core.test_door import assert_gone, is_alive
from tests.tasks.tiny_room import STUBBORN

READ_TO_GOODBYE = "import sys; words = next(sys.stdin).split(); assert next(sys.stdin) == chr(10); sys.exit(len(words))"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "_GRACE_SECONDS", 0.5)


def python(code: str) -> ProcessGroup:
    return ProcessGroup([sys.executable, "-c", code])


def family(tmp_path: Path, *, session: bool, holds_pipe: bool = False) -> str:
    """A program that starts a child which ignores SIGTERM, perhaps in a session of its own, and notes its number."""
    out = "None" if holds_pipe else "subprocess.DEVNULL"
    return (
        "import pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], start_new_session={session}, stdout={out})\n"
        f"path = pathlib.Path({str(tmp_path / 'draft')!r})\n"
        "path.write_text(str(child.pid))\n"
        f"path.rename({str(tmp_path / 'pid')!r})\n"
    )


def child_of(tmp_path: Path) -> int:
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int((tmp_path / "pid").read_text())


def test_lines_come_as_they_are_said_and_the_last_words_are_heard() -> None:
    group = python("import sys; sys.stdout.write('one\\n\\n' + 'x' * 200_000 + '\\nno end'); sys.exit(3)")
    assert list(group.lines()) == [b"one", b"", b"x" * 200_000, b"no end"]
    assert group.end() == 3


def test_what_is_sent_is_read_and_a_goodbye_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "_GRACE_SECONDS", 60.0)
    group = python(READ_TO_GOODBYE)
    group.send(b"two words")
    assert not group.has_ended()
    assert group.end(goodbye=True) == 2
    assert group.has_ended()
    assert group.end() == 2


def test_sending_to_a_process_that_ended_is_quiet() -> None:
    group = python("")
    assert list(group.lines()) == []
    group.send(b"x" * 200_000)
    assert group.end(goodbye=True) == 0


def test_a_process_that_ended_by_itself_is_not_waited_for_by_whom_it_left_behind(tmp_path: Path) -> None:
    group = python(family(tmp_path, session=False, holds_pipe=True) + "print('done', flush=True)")
    assert list(group.lines()) == [b"done"]
    child = child_of(tmp_path)
    assert is_alive(child)
    assert group.end() == 0
    assert_gone(child)


@pytest.mark.parametrize("session", [False, True])
def test_children_end_with_it_whatever_they_ignore_and_wherever_they_live(tmp_path: Path, session: bool) -> None:
    group = python(family(tmp_path, session=session) + "time.sleep(600)")
    child = child_of(tmp_path)
    assert group.end() == -signal.SIGTERM
    assert_gone(group.pid, child)


def test_a_process_that_ignores_all_but_sigkill_ends_too() -> None:
    group = python(STUBBORN.replace("time.sleep", "print('up', flush=True); time.sleep"))
    assert next(iter(group.lines())) == b"up"
    assert group.end(goodbye=True) == -signal.SIGKILL


def test_what_it_needs_is_added_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    code = "import os; print(os.environ['KEPT'], os.environ['ADDED'])"
    group = ProcessGroup([sys.executable, "-c", code], environment={"ADDED": "2"})
    assert list(group.lines()) == [b"1 2"]
    assert group.end() == 0
