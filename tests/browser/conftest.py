"""A server whose nights are a minute long, and a browser before it; without Chromium nothing runs, and that is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.pages import CHROMIUM, Pages, chromium_page
from tests.live.serving import Server, serving


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "browser/" in report.nodeid]
    if skipped and CHROMIUM is None:
        terminalreporter.section(f"NO BROWSER: {len(skipped)} TESTS OF THE UI DID NOT RUN", red=True, bold=True)
        terminalreporter.line("install chromium (apt-get install chromium) and call make test-browser", red=True)


@pytest.fixture(scope="session")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with serving(tmp_path_factory.mktemp("browsed") / "runs", 'nightly.cron="* * * * *"') as found:
        yield found


@pytest.fixture
def pages(browsed: Server, tmp_path: Path) -> Iterator[Pages]:
    """A browser before the server; the last thing that it showed is kept beside the test's files."""
    with chromium_page() as page:
        yield Pages(page, browsed)
        page.screenshot(path=tmp_path / "last-seen.png")
