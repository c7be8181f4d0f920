"""The report's page as a person reads it: opened from disk, without a network, by keyboard, on a phone, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from spin.report.request import ReportRequest
from spin.report.room import run
from tests.browser.pages import CHROMIUM, chromium_page
from tests.report.conftest import PAPER, RunBuilder

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunBuilder, Path]:
    """A run with two further evaluations, and its page."""
    builder = RunBuilder(
        tmp_path_factory.mktemp("opened") / "runs", benchmark="pickapic_test", protocol="best_of_n", scorers=PAPER,
        categories=("Animals",), further=("partiprompts.single", "partiprompts.best_of_n"),
    )  # fmt: skip
    builder.build()
    return builder, run(ReportRequest(builder.root, builder.name)).page


@pytest.fixture
def asked() -> list[str]:
    """What the page asked for, besides itself and what it holds."""
    return []


@pytest.fixture
def page(built: tuple[RunBuilder, Path], asked: list[str], tmp_path: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with chromium_page() as opened:
        expect.set_options(timeout=20_000)  # nothing here waits for a server
        opened.context.set_offline(True)
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("console", lambda message: asked.append(message.text))
        opened.on("pageerror", lambda error: asked.append(str(error)))
        opened.goto(built[1].as_uri())
        yield opened
        opened.screenshot(path=tmp_path / "last-seen.png")


def captions(page: Page) -> list[str]:
    return page.locator("#grid tbody th span").all_inner_texts()


def gain(builder: RunBuilder, caption: str) -> float:
    """Of the aesthetic judge, as the files have it: last model minus start, of the pictures that are kept."""
    index = builder.captions.index(caption)

    def kept(stage: str) -> float:
        rows = [[builder.values(stage, judge, draw)[index] for judge in PAPER] for draw in range(5)]
        return max(rows, key=sum)[PAPER.index("aesthetic")]

    return kept("iteration-03") - kept("sft")


def test_the_page_opens_from_disk_and_asks_for_nothing(
    page: Page, asked: list[str], built: tuple[RunBuilder, Path]
) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text("SPIN 3")
    assert [url for url in asked if not url.startswith("data:")] == [built[1].as_uri()]
    assert page.locator("img").evaluate_all("all => all.every((i) => i.complete && i.naturalWidth > 0)")


def test_the_grid_is_sorted_by_keyboard(page: Page, built: tuple[RunBuilder, Path]) -> None:
    picked = captions(page)
    order, judge = (page.get_by_role("combobox", name=name, exact=True) for name in ("Order", "by"))
    page.get_by_role("link", name="Skip to the scores").focus()
    for _ in range(200):
        page.keyboard.press("Tab")
        if order.evaluate("field => field === document.activeElement"):
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(judge).to_be_focused()
    page.keyboard.type("aes")
    expect(judge).to_have_value("1")
    sorted_by_gain = captions(page)
    assert sorted_by_gain == sorted(picked, key=lambda caption: -gain(built[0], caption))
    expect(page.get_by_role("status").first).to_have_text("largest gain first, by aesthetic")
    shown = page.locator("#grid .gain:visible")
    assert shown.first.inner_text() == f"+{gain(built[0], sorted_by_gain[0]):.2f}"
    assert shown.count() == len(picked)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowDown")
    assert captions(page) == sorted_by_gain[::-1]
    page.keyboard.press("Home")
    assert captions(page) == picked
    assert page.locator("#grid .gain:visible").count() == 0


def test_the_switches_of_two_tables_do_not_disturb_each_other(page: Page) -> None:
    own, further = page.locator("#wins"), page.locator("#further")
    expect(own.get_by_role("region", name="Win rates by average", exact=True)).to_be_visible()
    own.get_by_role("radio", name="PickScore").check()
    expect(own.get_by_role("region", name="Win rates by PickScore")).to_be_visible()
    expect(own.get_by_role("region", name="Win rates by average", exact=True)).to_be_hidden()
    expect(further.get_by_role("region", name="Win rates by average partiprompts.single")).to_be_visible()
    further.get_by_role("radio", name="median").first.check()
    assert page.locator("table.scores").evaluate_all("all => all.map((t) => t.dataset.statistic)") == [
        "mean", "median", "mean",
    ]  # fmt: skip


def test_a_phone_scrolls_tables_and_not_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    wide = page.locator("#wins .panel.chosen .scroll")
    assert wide.evaluate("box => box.scrollWidth > box.clientWidth")
    wide.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 0", arg=wide.element_handle())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    levels = [sum(int(part) for part in colour[4:-1].split(",")) / 3 for colour in (ground, ink)]
    assert (levels[0] < levels[1]) == (scheme == "dark")
    assert abs(levels[0] - levels[1]) > 150


def test_on_paper_every_panel_stands_and_no_control(page: Page) -> None:
    page.emulate_media(media="print")
    panels = page.locator("#wins .panel")
    assert panels.count() == 6  # two averages and four judges
    assert page.locator("#wins .panel:visible").count() == 6
    assert page.locator("fieldset:visible, .tools:visible").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.get_by_text("tables/costs.csv")).to_be_visible()
    assert len(page.pdf(format="A4")) > 100_000
