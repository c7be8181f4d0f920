"""Builds README.md of this folder from the measured JSON: `python -m benchmarks.page`; `--check` only compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.__main__ import ORDER
from benchmarks.command import MEASURED
from benchmarks.measuring import Measured, read_measured
from benchmarks.paper import PROFILE_NAMES, sampling_ladder, training_ladder
from benchmarks.tables import markdown, number, table
from benchmarks.targets import goals

PAGE: Final = Path(__file__).with_name("README.md")
TEMPLATE: Final = Path(__file__).with_name("page.md")


def page(measured: Path = MEASURED) -> str:
    found = {name: _read(measured / name) for name in PROFILE_NAMES}
    chapters = "\n".join(line for name in PROFILE_NAMES for line in _chapter(name, found[name]))
    return TEMPLATE.read_text("utf-8").replace("{{chapters}}\n", chapters + "\n").replace(
        "{{paper}}\n", "\n".join([*sampling_ladder(found), "", *training_ladder(found)]) + "\n"
    )  # fmt: skip


def _read(folder: Path) -> dict[str, Measured]:
    files = {name: folder / f"{name}.json" for name in ORDER}
    return {name: read_measured(file) for name, file in files.items() if file.exists()}


def _chapter(profile: str, found: Mapping[str, Measured]) -> Iterator[str]:
    yield f"## {PROFILE_NAMES[profile]}: `python -m benchmarks {profile}`"
    yield ""
    if not found:
        yield "Not measured yet."
        yield ""
        return
    yield from (*goals(profile, found), "")
    yield from _roofline(found)
    for name, measured in found.items():
        yield from (f"### {name.capitalize()}: `{measured.command}`", "", *table(measured), "")


def _roofline(found: Mapping[str, Measured]) -> Iterator[str]:
    """Operations counted, over the rate of matrix products in the same run."""
    rows = [
        [f"{name}: {timed.name}", number(timed.flops * 1e-12), number(timed.teraflops), f"{share:.0%}",
         number(share and 1 / (timed.median * share))]
        for name, measured in found.items()
        for timed in measured.timed
        if measured.counts and not timed.is_ceiling and (share := measured.share(timed))
    ]  # fmt: skip
    head = ["roofline", "TFLOP each, counted", "TFLOP/s", "of matmul", "each a second, were all of it matmul"]
    yield from (*markdown(head, rows), "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = page()
    if parser.parse_args().check:
        return int(PAGE.read_text("utf-8") != text)
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
