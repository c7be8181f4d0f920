"""Takes the pictures of the README's tour of one run that it starts from the form: `python -m tests.browser.tour`."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.pages import Pages, chromium_page
from tests.live.serving import serving, wait

FOLDER = Path(__file__).parents[2] / "docs" / "tour"
_COLOURS = 256  # a PNG with a palette: a third of the bytes


def take() -> None:
    """Write every picture."""
    with (
        tempfile.TemporaryDirectory(prefix="spin-diffusion-") as folder,
        serving(Path(folder) / "runs") as server,
        chromium_page() as page,
    ):
        wait(lambda: server.get("/work_pools/spin-control")["status"] == "READY", 120)
        pages = Pages(page, server)
        pages.open_form("spin-diffusion/run")
        pages.choose("Executor", "workers")
        keep(page, "form", height=910)
        assert pages.submit() == 201
        run = pages.follow("miniature")
        assert pages.ends(run) == "Completed"
        pages.open_run(run, "Artifacts")
        expect(pages.main.get_by_role("heading", name="miniature-story").first).to_be_visible()
        settle(page)
        keep(page, "run", height=820)
        pages.open_artifact("miniature-story")
        keep(page, "story", height=1060)
        pages.open_run(run)
        pages.open_artifact("miniature-sheet")
        pages.picture_width()
        keep(page, "pictures", height=780)


def settle(page: Page) -> None:
    """Wait until the graph of a run stops moving: two looks that are the same."""
    seen = b""
    while seen != (seen := page.screenshot()):
        page.wait_for_timeout(1500)


def keep(page: Page, name: str, *, height: int) -> None:
    """Write what the page shows, in few colours."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.mouse.move(0, 0)
    settle(page)
    with Image.open(BytesIO(page.screenshot())) as shot:
        few = shot.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    FOLDER.mkdir(parents=True, exist_ok=True)
    few.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    take()
