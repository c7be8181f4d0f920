"""`python -m flows.calm_server server start`: Prefect's command, in a process whose garbage is collected aside.

A statement that waits for SQLite's write lock holds the mutex of its connection, for up to the 60 s of Prefect's busy
timeout. Whoever finds one of that connection's old cursors in the garbage must take the same mutex. Python collects
wherever it happens to be: on the thread of the event loop, the transaction that has the lock cannot end meanwhile, so
nobody is answered for 60 s. A thread of its own may wait.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Final

_SECONDS: Final = 5.0


def collect_aside() -> None:
    """Collect garbage on a thread of its own, and nowhere else."""
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop of a temporary server, which Prefect starts by itself: UVICORN_LOOP names this."""
    from uvicorn.loops.auto import auto_loop_factory

    collect_aside()
    return auto_loop_factory()()


def _collect() -> None:
    while True:
        time.sleep(_SECONDS)
        gc.collect()


if __name__ == "__main__":
    from prefect.cli import app

    collect_aside()
    app()
