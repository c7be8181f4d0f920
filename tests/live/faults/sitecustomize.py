"""Lets a test make one commit fail in every process of a served runs root: the store raises audit events for that."""

import errno
import os
import sys
from pathlib import Path


def _fail(event: str, arguments: tuple) -> None:
    if event != "spin.store" or arguments[0] != "after-write":
        return
    try:
        text = Path(os.environ["SPIN_TEST_FAULT"]).read_text()
    except (KeyError, OSError):
        return
    if text and text in arguments[1]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


sys.addaudithook(_fail)
