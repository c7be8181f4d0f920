from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.serving import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One served runs root with one slot for GPU work, shared by the tests of the live server."""
    with serving(tmp_path_factory.mktemp("served") / "runs") as found:
        yield found


@pytest.fixture(scope="session")
def live(server: Server) -> str:
    """The flow run of a tiny run, "live", that the workers have done: nothing but Run was pressed."""
    run = server.play("live")
    server.ended(run)
    return run


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these start real servers: minutes each, run by `make test-slow`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
