"""The door of the evaluate room as a process: `python -m spin.evaluate request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.evaluate.request import EvaluateRequest
from spin.evaluate.room import run

if __name__ == "__main__":
    sys.exit(serve(EvaluateRequest, run, sys.argv[1:]))
