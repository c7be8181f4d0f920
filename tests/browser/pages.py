"""What people do on the pages of the Prefect UI, with mouse and keyboard, in a real Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.live.serving import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_PATIENCE_SECONDS = 120  # for what a page shows; the machine may be busy with other things
_RUN_SECONDS = 1800  # for a run
_BUSY = 503  # what Prefect answers when SQLite is locked; its own client asks again, a page does not
_ENDED = re.compile("^(Completed|Failed|Crashed|Cancelled)$")
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-component-update",
    "--disable-sync", "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the UI must need nothing from outside
)  # fmt: skip


@contextmanager
def chromium_page(*, height: int = 1000) -> Iterator[Page]:
    """An empty page, 1280 pixels wide."""
    expect.set_options(timeout=1000 * _PATIENCE_SECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": height})
        page.set_default_timeout(1000 * _PATIENCE_SECONDS)
        yield page
        browser.close()


@dataclass(frozen=True)
class Pages:
    """The pages of one server, as one person sees them."""

    page: Page
    server: Server

    @property
    def main(self) -> Locator:
        return self.page.get_by_role("main")

    def open(self, path: str) -> None:
        self.page.goto(f"{self.server.address}/v2/{path}")

    def open_deployment(self, name: str) -> None:
        self.open(f"deployments/deployment/{self.server.deployment(name)['id']}")

    def open_form(self, deployment: str) -> None:
        """The page that asks for a run's parameters."""
        self.open(f"deployments/deployment/{self.server.deployment(deployment)['id']}/run")
        expect(self.main.get_by_role("heading", name="Parameters")).to_be_visible()

    def open_run(self, run: str, tab: str = "Details") -> None:
        self.open(f"runs/flow-run/{run}?tab={tab.replace(' ', '+')}")

    def field(self, title: str) -> Locator:
        """The field of a form with this title."""
        return self.main.get_by_label(f"{title} (Optional)", exact=True)

    def choose(self, title: str, choice: str) -> None:
        """Choose from the list of a form with this title."""
        self.main.get_by_role("button", name=f"Select {title}", exact=True).click()
        self.page.get_by_role("option", name=choice, exact=True).click()

    def add_item(self, text: str) -> None:
        """Add a line to the only list of a form."""
        self.main.get_by_role("button", name="Add item").click()
        handles = self.main.get_by_role("button", name="Drag to reorder")
        handles.last.locator("xpath=..").get_by_role("textbox").fill(text)

    def submit(self) -> int:
        """Press Submit of a form; the server's answer, asked again while its database is busy."""
        button = self.main.get_by_role("button", name="Submit", exact=True)
        while (status := self._press(button, "create_flow_run")) == _BUSY:
            continue
        return status

    def tab(self, name: str) -> Locator:
        """Press a tab; what it shows."""
        self.main.get_by_role("tab", name=name, exact=True).click()
        return self.main.get_by_role("tabpanel", name=name)

    def ends(self, run: str, *, attempt: int = 1) -> str:
        """The state that the page of a run shows when its `attempt`-th execution is over."""
        self.page.goto("about:blank")  # the graph of a run that runs costs the machine a core
        self.server.ended(run, attempt=attempt, seconds=_RUN_SECONDS)
        self.open_run(run)
        badge = self.main.get_by_text(_ENDED).first
        expect(badge).to_be_visible()
        return badge.inner_text()

    def press_retry(self) -> int:
        """Retry in the menu of a run's page, and again where the UI asks; the server's answer."""
        status = _BUSY
        while status == _BUSY:
            self.main.get_by_role("button", name="Open menu", exact=True).first.click()
            self.page.get_by_role("menuitem", name="Retry").click()
            status = self._press(self.page.get_by_role("alertdialog").get_by_role("button", name="Retry"), "set_state")
        return status

    def open_artifact(self, key: str) -> None:
        """From the page of a run to the newest of its artifacts with this key."""
        self.tab("Artifacts").get_by_role("link").filter(has_text=key).first.click()
        versions = self.main.locator("a[href*='/artifacts/artifact/']")
        versions.first.click()
        expect(self.main.get_by_role("tab", name="Raw")).to_be_visible()

    def picture_width(self) -> int:
        """Pixels across the picture of an artifact's page, once it is there."""
        shown = "() => [...document.querySelectorAll('main img')].map(i => i.complete && i.naturalWidth).find(w => w)"
        return int(self.page.wait_for_function(shown).json_value())

    def follow(self, run: str) -> str:
        """Press the link to the run with this name, wherever it is listed; the id of the run."""
        self.main.get_by_role("link", name=run, exact=True).first.click()
        expect(self.main.get_by_role("navigation", name="breadcrumb").first).to_contain_text(run)
        return self.page.url.partition("/flow-run/")[2].partition("?")[0]

    def _press(self, button: Locator, path: str) -> int:
        with self.page.expect_response(lambda answer: answer.url.endswith(f"/{path}")) as answer:
            button.click()
        return int(answer.value.status)
