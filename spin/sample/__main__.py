"""The door of the sample room as a process: `python -m spin.sample request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.sample.request import SampleRequest
from spin.sample.room import run

if __name__ == "__main__":
    sys.exit(serve(SampleRequest, run, sys.argv[1:]))
