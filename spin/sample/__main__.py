"""The door of the sample room as a process: `python -m spin.sample request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.core.progress import Progress
from spin.sample.request import SampleRequest, SampleResult


def run(request: SampleRequest, *, progress: Progress) -> SampleResult:
    """The room, imported at its first request: its libraries take seconds, and the lifeline is held by then."""
    from spin.sample import room

    return room.run(request, progress=progress)


if __name__ == "__main__":
    sys.exit(serve(SampleRequest, run, sys.argv[1:]))
