"""What was aimed at before anything was measured: a floor and a target of each number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.measuring import Measured
from benchmarks.tables import DOES_NOT_COUNT, markdown
from spin.core.statistics import Estimate

Found = Mapping[str, Measured]  # by name of the benchmark, of one profile


@dataclass(frozen=True)
class Target:
    """A number of one profile; the larger the better, unless `least`."""

    what: str
    profile: str
    benchmark: str
    value: Callable[[Measured], Estimate | float]
    floor: float
    target: float
    least: bool = False
    share: bool = False  # written in per cent

    def row(self, measured: Measured) -> list[str]:
        """What was measured, with its interval over rounds where it is a ratio; the verdict goes by the median."""
        value = self.value(measured)
        middle, told = value, ""
        if isinstance(value, Estimate):
            middle, told = value.value, f" [{self.told(value.low)}, {self.told(value.high)}]"
        verdict = self.verdict(middle) + ", noisy" * measured.noisy if measured.counts else DOES_NOT_COUNT
        return [self.what, self.told(middle) + told, self.told(self.floor), self.told(self.target), verdict]

    def verdict(self, value: float) -> str:
        reached = (lambda bound: value <= bound) if self.least else (lambda bound: value >= bound)
        return "target" if reached(self.target) else "floor" if reached(self.floor) else "below the floor"

    def told(self, value: float) -> str:
        return f"{value:.0%}" if self.share else f"{value:.3g}"


def goals(profile: str, found: Found) -> list[str]:
    """A table of the targets of a profile that were measured."""
    asked = (goal for goal in TARGETS if goal.profile == profile and goal.benchmark in found)
    rows = [goal.row(found[goal.benchmark]) for goal in asked]
    return markdown(["number", "measured", "floor", "target", "reached"], rows) if rows else []


def _times(slow: str, fast: str) -> Callable[[Measured], Estimate]:
    return lambda measured: measured.ratio(slow, fast)


def _share(name: str) -> Callable[[Measured], float]:
    return lambda measured: measured.share(measured.of(name)) or 0.0


def _fact(name: str) -> Callable[[Measured], float]:
    return lambda measured: float(measured.facts[name])


def _rate(name: str) -> Callable[[Measured], float]:
    return lambda measured: 1 / measured.of(name).median


def _milliseconds(measured: Measured) -> float:
    return 1000 * measured.of("executor local, a task that does nothing").median


def _resume(measured: Measured) -> float:
    """Of 200 shards: the floor is 2 s and 5 ms a shard, the target 1 s and 1 ms."""
    timed = measured.of("resume")
    return timed.median * timed.units


TARGETS: Final = (
    Target("sampling over N1", "gpu", "sampling", _times("N1 bfloat16", "ours bfloat16"), 8, 12),
    Target("sampling over N2", "gpu", "sampling", _times("N2 bfloat16", "ours bfloat16"), 1.2, 1.5),
    Target("UNet alone, share of matmul", "gpu", "sampling", _share("UNet alone"), 0.45, 0.55, share=True),
    Target("whole shard over UNet alone", "gpu", "sampling", _times("UNet alone", "ours bfloat16"), 0.95, 0.98),
    Target("training over N3", "gpu", "training", _times("N3 bfloat16", "ours bfloat16"), 4, 6),
    Target("training over N3b", "gpu", "training", _times("N3b bfloat16", "ours bfloat16"), 1.6, 2),
    Target("training, share of matmul", "gpu", "training", _share("ours bfloat16"), 0.35, 0.45, share=True),
    Target("a pair by an image of SFT", "gpu", "training", _fact("a pair by an image of SFT"), 2.8, 2.67, least=True),
    Target("judges over N4", "gpu", "scoring", _times("N4 bfloat16", "ours bfloat16"), 5, 10),
    Target("sampling over N1 in float32", "cpu", "sampling", _times("N1 float32", "ours bfloat16"), 6, 8),
    Target(
        "sampling over DPM 20, batch 1, float32", "cpu", "sampling",
        _times("DPM 20, batch 1, float32", "ours bfloat16"), 2.5, 3.3,
    ),
    Target("whole shard over UNet alone", "cpu", "sampling", _times("UNet alone", "ours bfloat16"), 0.95, 0.98),
    Target("training over N3 in float32", "cpu", "training", _times("N3 float32", "ours bfloat16"), 1.7, 2.5),
    Target("a pair by an image of SFT", "cpu", "training", _fact("a pair by an image of SFT"), 2.8, 2.67, least=True),
    Target("executor local, ms of a shard", "cpu", "orchestration", _milliseconds, 250, 100, least=True),
    Target("resume of a finished iteration, s", "cpu", "orchestration", _resume, 3.0, 1.2, least=True),
    Target(
        "demo, share outside rooms", "cpu", "orchestration", _fact("demo, share outside rooms"), 0.03, 0.01,
        least=True, share=True,
    ),
    Target(
        "shards of 20 s, share outside them", "cpu", "scaling", _fact("share outside shard bodies, 1 worker"), 0.03,
        0.01, least=True, share=True,
    ),
    Target("efficiency of 16 workers", "cpu", "scaling", _fact("efficiency, 16 workers"), 0.90, 0.95, share=True),
    Target("latents written, MB/s", "cpu", "artifacts", _rate("write, ours"), 300, 600),
    Target(
        "latents written, over a list column", "cpu", "artifacts", _times("write, list column", "write, ours"), 8, 13
    ),
    Target("latents read by chance, MB/s", "cpu", "artifacts", _rate("read, ours, rows by chance"), 800, 2000),
    Target(
        "latents read by chance, over a list column", "cpu", "artifacts",
        _times("read, list column", "read, ours, rows by chance"), 8, 13,
    ),
    Target("judges over N4 in float32", "cpu", "scoring", _times("N4 float32", "ours bfloat16"), 2.5, 3.5),
)  # fmt: skip
