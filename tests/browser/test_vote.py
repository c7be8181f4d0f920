"""The blind vote as a person casts it: by keys, undone, reloaded, and on disk when the server is killed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from spin.core.ballots import Vote, read_votes
from spin.core.layout import RunsRoot
from tests.browser.pages import CHROMIUM, chromium_page
from tests.report.conftest import RunBuilder

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).parents[2]
LISTEN = """
window.told = [];
const ask = window.fetch;
window.fetch = async (...words) => {
  window.told.push(JSON.stringify(words));
  const answer = await ask(...words);
  if (!answer.body) return answer;
  const [heard, given] = answer.body.tee();
  const reader = heard.getReader(), decoder = new TextDecoder();
  (async () => {
    for (let part = await reader.read(); !part.done; part = await reader.read())
      window.told.push(decoder.decode(part.value, { stream: true }));
  })().catch(() => {});
  return new Response(given, { status: answer.status, headers: answer.headers });
};
"""  # keeps what the page asks and is told, streams too: their bodies cannot be read from outside while they run
PROGRAM = "from flows.cli import main; main()"


class Served:
    """`spin-diffusion vote` as a process of its own."""

    def __init__(self, builder: RunBuilder) -> None:
        self.builder = builder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        words = ["vote", self.builder.name, "--root", str(self.builder.root), "--prompts", "5", "--voter", "anna"]
        command = [sys.executable, "-c", PROGRAM, *words, "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=REPOSITORY)
        for _ in range(300):
            assert self.process.poll() is None, "the server ended"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the page was not served in a minute")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def votes(self) -> list[Vote]:
        return read_votes(RunsRoot(self.builder.root).run(self.builder.name))[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    builder = RunBuilder(tmp_path / "runs", stages=("base", "sft", "iteration-01"))
    builder.build()
    found = Served(builder)
    yield found
    found.kill()


@pytest.fixture
def asked() -> list[str]:
    """What the browser asked any machine for, and what came back as text."""
    return []


@pytest.fixture
def page(served: Served, asked: list[str], tmp_path: Path) -> Iterator[Page]:
    with chromium_page() as opened:
        expect.set_options(timeout=20_000)
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("pageerror", lambda error: asked.append(f"error {error}"))
        opened.goto(served.address)
        yield opened
        opened.screenshot(path=tmp_path / "last-seen.png")


def shown(page: Page) -> str:
    """Key of the pair that is seen."""
    return str(page.locator("#pair [data-pair]").get_attribute("data-pair", timeout=30_000))


def press(page: Page, key: str) -> str:
    """Press a key and wait for the next pair; the key of the pair that was seen before."""
    before = shown(page)
    page.keyboard.press(key)
    expect(page.locator(f"#pair [data-pair='{before}']")).to_have_count(0)
    return before


def test_votes_by_keys_and_buttons_are_on_disk_and_survive_a_kill(served: Served, page: Page, asked: list[str]) -> None:
    seen = [press(page, key) for key in "120"]
    assert [vote.pair for vote in served.votes()] == seen
    assert [vote.choice for vote in served.votes()] == ["left", "right", "neither"]
    expect(page.locator("#progress")).to_contain_text("3 of 5")

    page.get_by_role("button", name="Undo the last vote").click()
    expect(page.locator(f"#pair [data-pair='{seen[2]}']")).to_have_count(1)
    assert [vote.pair for vote in served.votes()] == seen[:2]
    page.get_by_role("button", name="Right").click()
    expect(page.locator("#progress")).to_contain_text("3 of 5")
    assert served.votes()[2].choice == "right"

    expected = shown(page)
    page.reload()
    expect(page.locator(f"#pair [data-pair='{expected}']")).to_have_count(1)
    served.kill()
    assert len(served.votes()) == 3
    served.start()
    page.goto(served.address)
    expect(page.locator(f"#pair [data-pair='{expected}']")).to_have_count(1)
    for key in "21":
        press(page, key)
    expect(page.locator("#pair")).to_contain_text("All pairs have your vote")
    page.keyboard.press("1")
    assert len(served.votes()) == 5
    others = [url for url in asked if not url.startswith((served.address, "data:", "blob:"))]
    assert others == []


def test_nothing_that_reaches_the_browser_tells_which_model_drew_which(
    served: Served, page: Page, asked: list[str]
) -> None:
    page.add_init_script(LISTEN)
    page.reload()
    for key in "12":
        press(page, key)
    expect(page.locator("#progress")).to_contain_text("2 of 5")
    sizes = page.locator("#pair img").evaluate_all("found => found.map(i => i.naturalWidth)")
    assert sizes[0] == sizes[1] > 0
    told = str(page.evaluate("() => window.told.join('')"))
    assert "base64" in told  # the pictures came along: nothing was missed
    text = told + page.content() + page.request.get(served.address).text() + " ".join(asked)
    stages = served.builder.record()["stages"]
    names = [str(stage[part])[:12] for stage in stages for part in ("digest", "label", "name") if stage[part] != "base"]
    assert [name for name in names if name in text] == []
