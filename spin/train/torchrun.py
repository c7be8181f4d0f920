"""torchrun around a room: N processes that take one request together, held by the same lifeline.

torchrun puts each of them in a session of its own, but all inherit its stdin: where that ends, each ends itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from spin.core.door import LIFELINE, hold
from spin.core.errors import ConfigError
from spin.core.failures import RoomEnded, told

PROCESSES: Final = "--processes"
_SHUTDOWN_SECONDS: Final = 3  # between SIGTERM and SIGKILL; torchrun's own 30, and torch 2.11's, outlast a cancel


def lead(target: Sequence[str], arguments: list[str]) -> int:
    """Run `target` in as many processes as the first argument says; the others are theirs. Returns the exit code.

    Args:
        target: what torchrun starts: a script, or "-m" and a module.
    """
    count, theirs = arguments[:1], arguments[1:]
    if not count or not count[0].isdecimal() or int(count[0]) < 1:
        _say(told(ConfigError("expected a number of processes", where=PROCESSES, fix="for example 2")))
        return ConfigError.exit_code
    if LIFELINE in theirs:
        hold(os.dup(0), deadly=True)  # stdin itself stays: the processes inherit it
    if sys.flags.safe_path:  # -P alone would not reach them
        os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, with a warning; rooms set their own number
    return _run(["--nproc-per-node", count[0], *target, *theirs])


def _run(command: list[str]) -> int:
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SHUTDOWN_SECONDS))  # torch 2.11 has no such option
    try:
        torchrun.run(torchrun.parse_args(["--standalone", "--local-addr", "127.0.0.1", *command]))
    except ChildFailedError as error:
        late = min(failure.timestamp for failure in error.failures.values()) + _SHUTDOWN_SECONDS
        for rank, failure in sorted(error.failures.items()):  # those that raised told it themselves
            by_torchrun = failure.exitcode == -signal.SIGTERM or failure.timestamp >= late
            if failure.exitcode < 0 and not by_torchrun:
                _say(told(RoomEnded.with_code(f"process {rank} of the training", failure.exitcode)))
        return 1
    return 0


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
