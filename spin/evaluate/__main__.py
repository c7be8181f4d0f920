"""The door of the evaluate room as a process: `python -m spin.evaluate request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.core.progress import Progress
from spin.evaluate.request import EvaluateRequest, EvaluateResult


def run(request: EvaluateRequest, *, progress: Progress) -> EvaluateResult:
    """The room, imported at its first request: its libraries take seconds, and the lifeline is held by then."""
    from spin.evaluate import room

    return room.run(request, progress=progress)


if __name__ == "__main__":
    sys.exit(serve(EvaluateRequest, run, sys.argv[1:]))
