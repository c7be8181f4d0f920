"""What was measured beside the paper's cost table, in its unit: seconds for 2048 images or pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.measuring import Measured, Timed
from benchmarks.tables import markdown, number

PROFILE_NAMES: Final = {"cpu": "Two cores of a CPU", "gpu": "One GPU"}
_UNIT: Final = 2048
_GPUS: Final = 8  # A100
_IMAGES: Final = {"N1": 342.0, "N1b": 136.0, "N2": 56.0, "ours": None}  # seconds, arXiv 2402.10210's rebuttal
_STEPS: Final = {"SPIN, pairs": (73.0, "ours bfloat16"), "SFT, images": (37.0, "SFT bfloat16, an image")}

Profiles = Mapping[str, Mapping[str, Measured]]  # by profile and benchmark


def sampling_ladder(found: Profiles) -> list[str]:
    """The paper's three ways to draw and ours, a column for each profile's device."""
    rows = [
        _row(name, seconds, [_way(each, "sampling", f"{name} bfloat16") for each in found.values()])
        for name, seconds in _IMAGES.items()
    ]
    return markdown(_head("2048 images", "images/s", found), rows)


def training_ladder(found: Profiles) -> list[str]:
    rows = [
        _row(name, seconds, [_way(each, "training", way) for each in found.values()])
        for name, (seconds, way) in _STEPS.items()
    ]
    return markdown(_head("training on 2048", "each/s", found), rows)


def _head(unit: str, rate: str, found: Profiles) -> list[str]:
    head = [unit, "paper, s on 8 A100", f"{rate} a GPU", *(f"{PROFILE_NAMES[name].lower()}, s" for name in found)]
    return [*head, *(f"{rate}, {name}" for name in found)]


def _row(name: str, seconds: float | None, ways: Sequence[Timed | None]) -> list[str]:
    paper = ["", ""] if seconds is None else [number(seconds), number(_UNIT / seconds / _GPUS)]
    measured = [number(_UNIT * way.median) if way else "" for way in ways]
    return [name, *paper, *measured, *(number(1 / way.median) if way else "" for way in ways)]


def _way(measured: Mapping[str, Measured], benchmark: str, name: str) -> Timed | None:
    """The way of that name, where it was measured and gives what its baseline gives."""
    if benchmark not in measured or not measured[benchmark].counts:
        return None
    return next((each for each in measured[benchmark].timed if each.name == name), None)
