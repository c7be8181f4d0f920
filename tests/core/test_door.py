"""The door of a room, seen from outside: what it hears, what it tells, and when it ends itself."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from spin.core.door import serve
from spin.core.requests import from_json, to_json
from tests.tasks.tiny_room import SCRIPT, Answer, Question, noted, run

PROGRAM = [sys.executable, "-P", str(SCRIPT)]


def written(folder: Path, question: Question) -> tuple[str, str]:
    (folder / "request.json").write_bytes(to_json(question))
    return str(folder / "request.json"), str(folder / "result.json")


def line(question: Question) -> bytes:
    return json.dumps(dataclasses.asdict(question)).encode() + b"\n"


def started(*arguments: str, session: bool = True, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=session, **options
    )


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def assert_gone(*pids: int) -> None:
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, [pid for pid in pids if is_alive(pid)]
        time.sleep(0.02)


def test_a_door_writes_the_answer_and_tells_progress_as_json_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = written(tmp_path, Question("echo", "hello"))
    assert serve(Question, run, [source, target]) == 0
    assert from_json(Answer, Path(target)).word == "hello"
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"done": 1, "total": 2, "note": "rank 0"}
    ]


def test_a_door_tells_what_went_wrong_in_one_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = written(tmp_path, Question("raise", "config"))
    assert serve(Question, run, [source, target]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "error": "ConfigError", "message": "train.beta: no such preset; take 2000", "family": "spin",
        "what": "no such preset", "where": "train.beta", "fix": "take 2000",
    }  # fmt: skip
    assert shown.err == ""
    assert not Path(target).exists()


def test_a_door_tells_a_mistake_of_ours_too_with_its_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(Question, run, list(written(tmp_path, Question("raise", "key")))) == 1
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["error"], told["message"]) == ("KeyError", "'NCCL error'")
    assert "tiny_room.py" in told["traceback"]
    assert shown.err.splitlines()[-1] == "KeyError: 'NCCL error'"


@pytest.mark.parametrize("arguments", [[], ["one"], ["1", "2", "3"], ["none.json", "result.json"]])
def test_a_door_refuses_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(Question, run, arguments) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "ConfigError"


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_of_several_processes_the_first_tells_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rank: str, lines: int
) -> None:
    monkeypatch.setenv("RANK", rank)
    source, target = written(tmp_path, Question("echo"))
    assert serve(Question, run, [source, target]) == 0
    assert len(capsys.readouterr().out.splitlines()) == lines
    assert Path(target).exists() is (rank == "0")


def test_any_of_several_processes_tells_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert serve(Question, run, list(written(tmp_path, Question("raise", "nan", 1)))) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "TrainingError"


def test_a_resident_room_serves_one_request_after_another_and_ends_with_its_stdin() -> None:
    child = started("--resident")
    out, _ = child.communicate(line(Question("echo", "a")) + line(Question("raise", "data")) + line(Question("echo")))
    told = [json.loads(text) for text in out.splitlines()]
    assert child.returncode == 0
    assert [sorted(message)[0] for message in told] == ["done", "result", "error", "done", "result"]
    assert [message["result"] for message in told if "result" in message] == [
        {"pid": child.pid, "calls": 1, "word": "a"}, {"pid": child.pid, "calls": 3, "word": ""},
    ]  # fmt: skip


def test_a_wrong_request_is_told_and_the_room_goes_on() -> None:
    child = started("--resident")
    out, _ = child.communicate(b'{"act": 5}\n' + line(Question("echo")))
    told = [json.loads(text) for text in out.splitlines()]
    assert told[0]["message"] == "request: is no Question: act: Input should be a valid string; mend that field"
    assert "result" in told[-1]


def test_after_an_error_that_is_not_ours_a_resident_room_ends() -> None:
    child = started("--resident", stderr=subprocess.PIPE)
    out, shown = child.communicate(line(Question("raise", "CUDA")) + line(Question("echo")))
    (told,) = [json.loads(text) for text in out.splitlines()]
    assert (told["error"], child.returncode) == ("RuntimeError", 1)
    assert shown.decode().splitlines()[-1].startswith("RuntimeError: CUDA error")


def test_what_a_library_prints_is_no_message_and_what_it_reads_is_no_request() -> None:
    child = started("--resident", stderr=subprocess.PIPE)
    out, shown = child.communicate(line(Question("print")) + line(Question("echo")))
    told = [json.loads(text) for text in out.splitlines()]
    assert ["error" in message for message in told] == [False] * 4
    assert b"a library's own line\n" in shown
    assert b"printed, not told" in shown


def test_a_room_at_work_ends_with_all_it_started_where_its_holder_is_gone(tmp_path: Path) -> None:
    child = started("--resident", "--lifeline")
    assert child.stdin is not None
    child.stdin.write(line(Question("hang", str(tmp_path / "pids"))))
    child.stdin.flush()
    room, grandchild = noted(tmp_path / "pids")
    assert (room, is_alive(grandchild)) == (child.pid, True)
    child.stdin.close()
    assert child.wait(timeout=10) == -signal.SIGKILL
    assert_gone(grandchild)


def test_an_idle_room_leaves_nothing_behind_where_its_holder_is_gone(tmp_path: Path) -> None:
    child = started("--resident", "--lifeline")
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(line(Question("leave", str(tmp_path / "pids"))))
    child.stdin.flush()
    assert ["done" in json.loads(child.stdout.readline()) for _ in range(2)] == [True, False]
    room, grandchild = noted(tmp_path / "pids")
    assert (is_alive(room), is_alive(grandchild)) == (True, True)
    child.stdin.close()
    assert child.wait(timeout=10) == -signal.SIGKILL
    assert_gone(grandchild)


def test_a_goodbye_lets_the_room_end_by_itself() -> None:
    child = started("--resident", "--lifeline")
    out, _ = child.communicate(line(Question("echo")) + b"\n")
    assert child.returncode == 0
    assert b'"result"' in out


def test_a_room_for_one_request_has_a_lifeline_only_where_asked(tmp_path: Path) -> None:
    """By hand stdin may be a terminal, a closed pipe or nothing: it means nothing."""
    request, result = written(tmp_path, Question("hang", str(tmp_path / "pids")))
    by_hand, held = started(request, result), started("--lifeline", request, result)
    for child in (by_hand, held):
        assert child.stdin is not None
        child.stdin.close()
    assert held.wait(timeout=60) == -signal.SIGKILL
    try:
        noted(tmp_path / "pids")  # at least its own: the other may have been faster, too
        assert by_hand.poll() is None
    finally:
        os.killpg(by_hand.pid, signal.SIGKILL)
        by_hand.wait()


def test_a_room_that_leads_no_group_ends_only_itself(tmp_path: Path) -> None:
    """Its group is somebody else's: here this test's own."""
    child = started("--resident", "--lifeline", session=False)
    assert child.stdin is not None
    child.stdin.write(line(Question("hang", str(tmp_path / "pids"))))
    child.stdin.flush()
    _, grandchild = noted(tmp_path / "pids")
    child.stdin.close()
    assert child.wait(timeout=60) == -signal.SIGKILL
    assert is_alive(grandchild)
    os.kill(grandchild, signal.SIGKILL)
