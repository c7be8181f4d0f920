"""The door of the train room as a process: `python -m spin.train [--processes N] request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.core.progress import Progress
from spin.train.request import TrainRequest, TrainResult
from spin.train.torchrun import PROCESSES, lead


def run(request: TrainRequest, *, progress: Progress) -> TrainResult:
    """The room, imported at its first request: its libraries take seconds, and the lifeline is held by then."""
    from spin.train import room

    return room.run(request, progress=progress)


if __name__ == "__main__":
    if PROCESSES in sys.argv[1:2]:
        sys.exit(lead(["-m", "spin.train"], sys.argv[2:]))
    sys.exit(serve(TrainRequest, run, sys.argv[1:]))
