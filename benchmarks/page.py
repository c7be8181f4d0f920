"""Builds README.md of this folder from the measured JSON: `python -m benchmarks.page`; `--check` only compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.__main__ import ORDER
from benchmarks.command import MEASURED
from benchmarks.measuring import Measured, Timed, read_measured
from benchmarks.tables import markdown, number, table
from benchmarks.targets import TARGETS

PAGE: Final = Path(__file__).with_name("README.md")
TEMPLATE: Final = Path(__file__).with_name("page.md")
_NAMES: Final = {"cpu": "Two cores of a CPU", "gpu": "One GPU"}
_UNIT: Final = 2048  # images or pairs, as the paper's cost table counts
_PAPERS_GPUS: Final = 8  # A100
_PAPER_IMAGES: Final = {"N1": 342.0, "N1b": 136.0, "N2": 56.0}  # seconds, arXiv 2402.10210's rebuttal
_PAPER_STEPS: Final = {"SPIN, pairs": (73.0, "ours bfloat16"), "SFT, images": (37.0, "SFT bfloat16, an image")}

Profiles = Mapping[str, Mapping[str, Measured]]  # by profile and benchmark


def page(measured: Path = MEASURED) -> str:
    found = {name: _read(measured / name) for name in _NAMES}
    chapters = "\n".join(line for name in _NAMES for line in _chapter(name, found[name]))
    return TEMPLATE.read_text("utf-8").replace("{{chapters}}\n", chapters + "\n").replace(
        "{{paper}}\n", "\n".join(_paper(found)) + "\n"
    )  # fmt: skip


def _read(folder: Path) -> dict[str, Measured]:
    files = {name: folder / f"{name}.json" for name in ORDER}
    return {name: read_measured(file) for name, file in files.items() if file.exists()}


def _chapter(profile: str, found: Mapping[str, Measured]) -> Iterator[str]:
    yield f"## {_NAMES[profile]}: `python -m benchmarks {profile}`"
    yield ""
    if not found:
        yield "Not measured yet."
        yield ""
        return
    yield from _goals(profile, found)
    yield from _roofline(found)
    for name, measured in found.items():
        yield from (f"### {name.capitalize()}: `{measured.command}`", "", *table(measured), "")


def _goals(profile: str, found: Mapping[str, Measured]) -> Iterator[str]:
    rows = []
    for goal in TARGETS:
        if goal.profile != profile or goal.benchmark not in found:
            continue
        value = goal.value(found[goal.benchmark])
        measured = found[goal.benchmark]
        verdict = goal.verdict(value) if measured.counts else "does not count"
        verdict += ", noisy" * measured.noisy
        rows.append([goal.what, goal.told(value), goal.told(goal.floor), goal.told(goal.target), verdict])
    yield from (*markdown(["number", "measured", "floor", "target", "reached"], rows), "")


def _roofline(found: Mapping[str, Measured]) -> Iterator[str]:
    """Operations counted, over the rate of matrix products in the same run."""
    rows = [
        [f"{name}: {timed.name}", number(timed.flops * 1e-12), number(timed.teraflops), f"{share:.0%}",
         number(share and 1 / (timed.median * share))]
        for name, measured in found.items()
        for timed in measured.timed
        if not timed.is_ceiling and (share := measured.share(timed))
    ]  # fmt: skip
    head = ["roofline", "TFLOP each, counted", "TFLOP/s", "of matmul", "each a second, were all of it matmul"]
    yield from (*markdown(head, rows), "")


def _paper(found: Profiles) -> list[str]:
    """The paper's ladder and ours, in its unit, for one device."""
    head = ["2048 images", "paper, s on 8 A100", "images/s a GPU", *(f"{_NAMES[name].lower()}, s" for name in found)]
    head += [f"images/s, {name}" for name in found]
    drawn = [
        _line(name, seconds, [_way(each, "sampling", f"{name} bfloat16") for each in found.values()])
        for name, seconds in [*_PAPER_IMAGES.items(), ("ours", None)]
    ]
    learned = [
        _line(name, seconds, [_way(each, "training", way) for each in found.values()])
        for name, (seconds, way) in _PAPER_STEPS.items()
    ]
    trained = ["training on 2048", *(part.replace("images/s", "each/s") for part in head[1:])]
    return [*markdown(head, drawn), "", *markdown(trained, learned)]


def _line(name: str, seconds: float | None, ways: Sequence[Timed | None]) -> list[str]:
    paper = ["", ""] if seconds is None else [number(seconds), number(_UNIT / seconds / _PAPERS_GPUS)]
    ours = [number(_UNIT * way.median) if way else "" for way in ways]
    return [name, *paper, *ours, *(number(1 / way.median) if way else "" for way in ways)]


def _way(measured: Mapping[str, Measured], benchmark: str, name: str) -> Timed | None:
    """The way of that name, where it was measured."""
    timed = measured[benchmark].timed if benchmark in measured else ()
    return next((each for each in timed if each.name == name), None)


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
