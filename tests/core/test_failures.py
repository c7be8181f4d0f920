"""An error that crossed the border between two processes is the same error, as near as can be."""

from __future__ import annotations

import errno
import json
import signal

import pytest

from spin.core.errors import ArtifactError, ConfigError, SpinError
from spin.core.failures import ForeignError, RoomEnded, raised, told, told_with_traceback


def crossed(error: BaseException) -> Exception:
    return raised(json.loads(json.dumps(told(error))))


def test_our_own_error_keeps_its_kind_and_its_three_parts() -> None:
    error = ConfigError("no such preset", where="train.beta", fix="take 2000")
    assert told(error)["message"] == "train.beta: no such preset; take 2000"
    found = crossed(error)
    assert type(found) is ConfigError
    assert (found.message, found.where, found.fix) == ("no such preset", "train.beta", "take 2000")
    assert str(found) == str(error)
    assert str(crossed(ArtifactError("is damaged"))) == "is damaged"


def test_a_kind_of_our_own_that_only_the_room_knows_arrives_as_the_one_it_is_a_kind_of() -> None:
    class Unreadable(ArtifactError):
        pass

    class SystemExit(SpinError):  # a name that means something else elsewhere
        pass

    assert type(crossed(Unreadable("x"))) is ArtifactError
    assert type(crossed(SystemExit("x"))) is SpinError


def test_the_io_trouble_behind_an_error_keeps_its_number() -> None:
    error = ArtifactError("cannot write")
    error.__cause__ = OSError(errno.EIO, "Input/output error", "/data/a b")
    cause = crossed(error).__cause__
    assert isinstance(cause, OSError)
    assert (cause.errno, cause.strerror, cause.filename) == (errno.EIO, "Input/output error", "/data/a b")
    error.__cause__ = ValueError("not I/O")
    assert crossed(error).__cause__ is None


def test_an_os_error_keeps_its_number_and_with_it_its_class() -> None:
    error = OSError(errno.ENOENT, "No such file or directory", "/none")
    assert str(crossed(error)) == str(error)
    assert type(crossed(error)) is FileNotFoundError
    assert (crossed(OSError("the server is away")).errno, str(crossed(OSError("away")))) == (None, "away")


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (RuntimeError("CUDA error"), RuntimeError, "CUDA error"),
        (NotImplementedError("no bf16"), RuntimeError, "NotImplementedError: no bf16"),
        (KeyError("x"), ForeignError, "KeyError: 'x'"),
        (MemoryError(), ForeignError, "MemoryError: "),
        (ForeignError("KeyError: 'x'"), ForeignError, "KeyError: 'x'"),
    ],
)
def test_any_other_error_arrives_with_its_name(error: Exception, kind: type[Exception], line: str) -> None:
    assert type(crossed(error)) is kind
    assert str(crossed(error)) == line


def test_a_long_message_is_cut_and_a_long_line_of_our_own_is_not() -> None:
    assert len(str(crossed(RuntimeError("x" * 5000)))) == 1000
    assert str(crossed(ConfigError("x" * 5000))) == "x" * 5000


def test_a_traceback_is_a_note_of_the_error_and_ends_where_it_was_raised() -> None:
    try:
        raise ValueError("here")
    except ValueError as error:
        found = raised(told_with_traceback(error))
    (note,) = found.__notes__
    assert note.startswith("In the room's process:\n")
    assert note.endswith("ValueError: here\n")
    assert __file__ in note


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        (
            -signal.SIGKILL,
            9,
            r"^spin.x was ended by SIGKILL \(the kernel does that to whoever takes the last memory\)$",
        ),
        (-signal.SIGSEGV, 11, "SIGSEGV .a fault in compiled code"),
        (-signal.SIGBUS, 7, "SIGBUS .a mapped file that shrank"),
        (-signal.SIGTERM, 15, "^spin.x was ended by SIGTERM$"),
        (-35, 35, "signal 35"),
        (3, None, "^spin.x ended without an answer, exit code 3$"),
    ],
)
def test_a_process_that_ended_is_named_with_its_reason(code: int, number: int | None, words: str) -> None:
    error = RoomEnded.with_code("spin.x", code)
    assert error.signal == number
    with pytest.raises(RoomEnded, match=words):
        raise crossed(error)
    assert crossed(error).signal == number  # type: ignore[attr-defined]
