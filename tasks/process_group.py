"""A process with everything that it starts: heard line by line, and ended together."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import psutil

_LOOK_SECONDS: Final = 0.2  # between two looks at a silent process: so long a cancel may wait
_GRACE_SECONDS: Final = 3.0  # for each of goodbye, hang-up and SIGTERM; three of them stay below 10 s


class ProcessGroup:
    """A process that leads a session of its own. Its stdin is its lifeline: it ends where this process does."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, files: Sequence[int] = ()
    ) -> None:
        """Start `command`; `environment` is added to this process's, `files` are open files to inherit."""
        self._leader = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            env={**os.environ, **(environment or {})}, pass_fds=files,
        )  # fmt: skip
        self._lines: deque[bytes] = deque()
        self._rest = b""

    @property
    def pid(self) -> int:
        return self._leader.pid

    def send(self, line: bytes) -> None:
        """Say one line; nothing happens where the process has ended, `lines` will show it."""
        assert self._leader.stdin is not None
        with suppress(BrokenPipeError):
            self._leader.stdin.write(line + b"\n")
            self._leader.stdin.flush()

    def lines(self) -> Iterator[bytes]:
        """What is said, line by line, until the leader has ended or nobody holds the pipe any more."""
        assert self._leader.stdout is not None
        pipe = self._leader.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while True:
            while self._lines:
                yield self._lines.popleft()
            ended = self.has_ended()  # looked at before the pipe: its last words are still read
            if poll.poll(0 if ended else _LOOK_SECONDS * 1000):
                chunk = os.read(pipe, 2**16)
                *whole, self._rest = (self._rest + chunk).split(b"\n")
                self._lines.extend(whole)
                if not chunk:
                    break
            elif ended:  # a grandchild may hold the pipe open for ever
                break
        if self._rest:
            yield self._rest
            self._rest = b""

    def has_ended(self) -> bool:
        """Whether the leader has; it is not reaped, so that its number still names the group."""
        if self._leader.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def end(self, *, goodbye: bool = False) -> int:
        """End the leader and all that it started; its exit code, negative for a signal.

        Args:
            goodbye: let it end by itself first, with what it does at its end.
        """
        if self._leader.returncode is not None:
            return self._leader.returncode
        family: set[psutil.Process] = set()
        try:
            family = (
                self._family()
            )  # torchrun's processes lead sessions of their own: no signal to the group meets them
            if goodbye:
                self.send(b"")
                self._wait()
            self._hang_up()
            self._wait()
            if not self.has_ended():
                self._signal(signal.SIGTERM)
                self._wait()
        finally:
            for process in {*family, *self._family()}:
                with suppress(psutil.Error):
                    process.kill()
            self._signal(signal.SIGKILL)
            code = self._leader.wait()
            self._hang_up()
            assert self._leader.stdout is not None
            self._leader.stdout.close()
        return code

    def _family(self) -> set[psutil.Process]:
        try:
            return set(psutil.Process(self.pid).children(recursive=True))
        except psutil.Error:
            return set()

    def _wait(self) -> None:
        deadline = time.monotonic() + _GRACE_SECONDS
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _hang_up(self) -> None:
        assert self._leader.stdin is not None
        with suppress(BrokenPipeError):
            self._leader.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)
