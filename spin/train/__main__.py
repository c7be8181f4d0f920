"""The door of the train room as a process: `python -m spin.train request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.train.request import TrainRequest
from spin.train.room import run

if __name__ == "__main__":
    sys.exit(serve(TrainRequest, run, sys.argv[1:]))
