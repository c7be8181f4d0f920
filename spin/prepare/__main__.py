"""The door of the prepare room as a process: `python -m spin.prepare request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.prepare.request import PrepareRequest
from spin.prepare.room import run

if __name__ == "__main__":
    sys.exit(serve(PrepareRequest, run, sys.argv[1:]))
