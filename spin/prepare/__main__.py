"""The door of the prepare room as a process: `python -m spin.prepare request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.core.progress import Progress
from spin.prepare.request import PrepareRequest, PrepareResult


def run(request: PrepareRequest, *, progress: Progress) -> PrepareResult:
    """The room, imported at its first request: its libraries take seconds, and the lifeline is held by then."""
    from spin.prepare import room

    return room.run(request, progress=progress)


if __name__ == "__main__":
    sys.exit(serve(PrepareRequest, run, sys.argv[1:]))
