"""`python -m flows.calm_server server start`: Prefect's command, with three cures for its database on SQLite, and one
for a server that was away.

Transactions take the write lock when they begin. Prefect 3.8.8 begins by reading, and asks for the lock at the first
write: where somebody else has written since, SQLite refuses at once, however long one would wait. A press on Run is
then answered by 503, and an event that four quick tries did not get through is lost, with the automation that it
would have set off.

Garbage is collected on a thread of its own. A statement that waits for the lock holds the mutex of its connection,
for up to 60 s, and whoever finds an old cursor of that connection in the garbage must take the same mutex. Python
collects wherever it happens to be: on the thread of the event loop, the transaction that has the lock cannot end
meanwhile, and nobody is answered.

Only requests are limited. Prefect lets a hundred be answered at once, and counts the websockets of workers and runs
too, each for as long as it is open: sixteen workers with a run each held them all, and nobody was answered any more.

Silence counts only while somebody listens. Prefect looks for runs that gave no heartbeat as soon as it is back from an
outage, before those that live can be heard, and marks them Crashed; their processes hold the run's lock, and a second
press on Run is refused.
"""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

Look = Callable[[], Coroutine[Any, Any, None]]  # for runs that gave no heartbeat

_SECONDS: Final = 5.0
_AWAY: Final = 30.0  # seconds without a look at who is silent, where one comes every five: the server was stopped
_LOADED: Final = 12  # collections until a server has loaded what stays: looking at that costs 0.14 s each time


def calm() -> None:
    """Prepare this process to be a server."""
    _lock_early()
    _let_websockets_pass()
    _listen_first()
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop of a temporary server, which Prefect starts by itself: UVICORN_LOOP names this."""
    from uvicorn.loops.auto import auto_loop_factory

    calm()
    return auto_loop_factory()()


def _collect() -> None:
    for done in count(1):
        time.sleep(_SECONDS)
        gc.collect()
        if done == _LOADED:
            gc.freeze()


def _lock_early() -> None:
    from prefect.server.database import dependencies
    from prefect.server.database.configurations import AioSqliteConfiguration
    from prefect.server.utilities.database import get_dialect
    from prefect.settings import get_current_settings

    class EarlyLock(AioSqliteConfiguration):
        @asynccontextmanager
        async def begin_transaction(
            self,
            session: AsyncSession,
            with_for_update: bool = False,  # noqa: ARG002 Prefect's signature
        ) -> AsyncGenerator[AsyncSessionTransaction, None]:
            async with super().begin_transaction(session, with_for_update=True) as transaction:
                yield transaction

    address = get_current_settings().server.database.connection_url
    assert address is not None
    url = address.get_secret_value()
    if get_dialect(url).name == "sqlite":
        dependencies.MODELS_DEPENDENCIES["database_config"] = EarlyLock(connection_url=url)


def _let_websockets_pass() -> None:
    from prefect.server.api.server import RequestLimitMiddleware

    limited = RequestLimitMiddleware.__call__

    async def answer(self: RequestLimitMiddleware, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await limited(self, scope, receive, send)

    RequestLimitMiddleware.__call__ = answer  # type: ignore[method-assign]


def _listen_first() -> None:
    from prefect.server.events import triggers

    from flows.automations import SILENCE

    look = after_listening(triggers.evaluate_proactive_triggers, SILENCE.total_seconds())
    triggers.evaluate_proactive_triggers = look


def after_listening(look: Look, seconds: float, clock: Callable[[], float] = time.time) -> Look:
    """Looks only where it was called so often, for so many seconds, that nobody can have been missed meanwhile.

    By the clock that Prefect counts silence with: it goes on while a machine is suspended. What Prefect's triggers
    conclude from a heartbeat that comes too late is theirs.
    """
    since = last = math.inf

    async def look_later() -> None:
        nonlocal since, last
        now = clock()
        if not 0 <= now - last <= _AWAY:
            since = now
        if now - since >= seconds:
            await look()
        last = clock()

    return look_later


if __name__ == "__main__":
    from prefect.cli import app

    calm()
    app()
