"""Lets a test fail or hold one commit in every process of a served runs root: the store raises audit events for that.

The file that SPIN_TEST_FAULT names holds a part of a path, or `hold` and a part of a path.
"""

import errno
import os
import sys
import time
from pathlib import Path


def _fail(event: str, arguments: tuple) -> None:
    if event != "spin.store" or arguments[0] != "after-write":
        return
    while (text := _wanted()).startswith("hold ") and text[5:] in arguments[1]:
        time.sleep(0.1)
    if text and text in arguments[1]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _wanted() -> str:
    try:
        return Path(os.environ["SPIN_TEST_FAULT"]).read_text()
    except (KeyError, OSError):
        return ""


sys.addaudithook(_fail)
