"""A room as a process of its own, asked in one of two ways.

    python -m spin.<room> request.json result.json    one request: by hand, or as one of torchrun's processes
    python -m spin.<room> --resident                  a request a line on stdin; an empty line says goodbye

It tells on stdout, a JSON line each: {"done", "total", "note"}, {"result"}, {"error", "message", ...}.

With --lifeline whoever started the room holds its stdin. Where that ends without a goodbye, its holder is gone,
in whatever way, and the room's whole process group goes too. By hand nothing hangs on stdin.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from spin.core.errors import ConfigError, SpinError
from spin.core.failures import told, told_with_traceback
from spin.core.progress import Progress, silent
from spin.core.requests import from_json, from_text, to_json

RESIDENT: Final = "--resident"
LIFELINE: Final = "--lifeline"
_GOODBYE_SECONDS: Final = 5.0  # after a goodbye, for the interpreter to end by itself

Request = TypeVar("Request")
Say = Callable[[dict[str, Any]], None]
Inbox = SimpleQueue[bytes | None]


def serve(kind: type[Request], run: Callable[..., object], arguments: list[str]) -> int:
    """Hear requests, run the room, tell results; returns the exit code."""
    paths = [word for word in arguments if word not in (RESIDENT, LIFELINE)]
    if len(paths) == len(arguments):
        return _serve_file(kind, run, paths, _say)
    asked, say = _take_over()
    inbox = hold(asked, deadly=LIFELINE in arguments)
    if RESIDENT in arguments:
        return _serve_lines(kind, run, inbox, say)
    return _serve_file(kind, run, paths, say)


def hold(descriptor: int, *, deadly: bool) -> Inbox:
    """Read lines in the background, None at their end; `deadly` where a missing goodbye ends the process group."""
    inbox: Inbox = SimpleQueue()

    def read() -> None:
        goodbye = False
        with os.fdopen(descriptor, "rb") as lines:
            while not goodbye and (line := lines.readline()):
                if line.strip():
                    inbox.put(line)
                else:
                    goodbye = True
        if deadly and not goodbye:
            _end_group()
        inbox.put(None)
        if deadly:
            time.sleep(_GOODBYE_SECONDS)
            _end_group()

    threading.Thread(target=read, name="lifeline", daemon=True).start()
    return inbox


def _serve_file(kind: type[Request], run: Callable[..., object], paths: list[str], say: Say) -> int:
    first = os.environ.get("RANK", "0") == "0"  # torchrun's processes: one tells and writes, any may fail
    try:
        if len(paths) != 2:
            raise ConfigError(f"expected a request and a result file, got {len(paths)} arguments")
        result = run(from_json(kind, Path(paths[0])), progress=_progress(say) if first else silent)
        if first:
            Path(paths[1]).write_bytes(to_json(result))
    except Exception as error:  # the border of the process: told, whatever it is
        return _tell(error, say)
    return 0


def _serve_lines(kind: type[Request], run: Callable[..., object], inbox: Inbox, say: Say) -> int:
    for line in iter(inbox.get, None):
        try:
            result = run(from_text(kind, line, where="request"), progress=_progress(say))
            say({"result": json.loads(to_json(result))})
        except Exception as error:
            code = _tell(error, say)
            if not isinstance(error, SpinError):  # a CUDA error outlives its call: only a new process is sound
                return code
    return 0


def _tell(error: Exception, say: Say) -> int:
    if isinstance(error, SpinError):
        say(told(error))
        return error.exit_code
    traceback.print_exception(error)
    say(told_with_traceback(error))
    return 1


def _progress(say: Say) -> Progress:
    def progress(done: int, total: int, note: str = "") -> None:
        say({"done": done, "total": total, "note": note})

    return progress


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _take_over() -> tuple[int, Say]:
    """stdin and stdout for messages alone: a library's print goes to stderr, and no child reads a request."""
    asked, told_to = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # now a log: told before a crash, not after

    def say(message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        while line:  # one piece up to PIPE_BUF: torchrun's processes share the pipe
            line = line[os.write(told_to, line) :]

    return asked, say


def _end_group() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
