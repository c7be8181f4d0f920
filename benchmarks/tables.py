"""Measured benchmarks as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.measuring import Check, Measured, Timed

DOES_NOT_COUNT: Final = "does not count"  # a speed whose outputs are others than the baseline's
NOT_COMPILED: Final = ", not compiled"  # after the name of a way: the same, eager


def table(measured: Measured) -> list[str]:
    """A row for each way, then what was compared, and whether other work disturbed it."""
    head = [f"{measured.benchmark}, {measured.profile}", f"s/{measured.unit}, median (p10 to p90)"]
    head += [f"{measured.unit}/s", *(f"times {name}" for name in measured.against), "TFLOP/s", "of matmul"]
    rows = [_row(measured, timed) for timed in measured.timed if not timed.is_ceiling or not measured.against]
    return [*markdown(head, rows), "", *compile_table(measured), *_footnotes(measured)]


def short_table(found: Sequence[Measured]) -> list[str]:
    """What is ours against each baseline: one line each."""
    rows = [
        [measured.benchmark, timed.name, f"{number(1 / timed.median)} {measured.unit}/s", name, ratio]
        for measured in found
        for timed in measured.timed
        if timed.name.startswith("ours")
        for name in measured.against
        if (ratio := _ratio(measured, name, timed.name))
    ]
    return markdown(["benchmark", "way", "rate", "baseline", "times as fast [95 %]"], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def compile_table(measured: Measured) -> list[str]:
    """What compiling takes, and when it has paid: the first call over a later one.

    The cache of graphs is empty at first; who compiles the same network again finds it there.
    """
    by_name, rows = {timed.name: timed for timed in measured.timed}, []
    for timed in measured.timed:
        seconds = timed.first_seconds - timed.median * timed.units
        if timed.compiled and seconds > 0:
            eager = by_name.get(timed.name + NOT_COMPILED)
            rows.append([timed.name, number(seconds), "" if eager is None else _break_even(seconds, timed, eager)])
    head = ["compiled", "s of the first call over a later one", f"paid for after, {measured.unit}s"]
    return [*markdown(head, rows), ""] if rows else []


def _break_even(seconds: float, compiled: Timed, eager: Timed) -> str:
    """Units after which what compiling took is saved."""
    saved = eager.median - compiled.median
    return number(seconds / saved) if saved > 0 else "never"


def _row(measured: Measured, timed: Timed) -> list[str]:
    spread = f"{number(timed.median)} ({number(timed.quantile(0.1))} to {number(timed.quantile(0.9))})"
    ratios = [_ratio(measured, name, timed.name) for name in measured.against]
    share = measured.share(timed)
    rate = number(timed.teraflops) if timed.flops else ""
    return [timed.name, spread, number(1 / timed.median), *ratios, rate, "" if share is None else f"{share:.0%}"]


def _ratio(measured: Measured, slow: str, fast: str) -> str:
    if slow == fast:
        return "1"
    if measured.of(slow).kind != measured.of(fast).kind:
        return ""
    if not measured.counts:
        return DOES_NOT_COUNT
    found = measured.ratio(slow, fast)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]" + (" noisy" if measured.noisy else "")


def _footnotes(measured: Measured) -> list[str]:
    machine, lines = measured.machine, [_told(check) for check in measured.checks]
    load = f"load {min(measured.load):.1f} to {max(measured.load):.1f} on {machine['cores']} cores"
    facts = ", ".join(f"{name} {value}" for name, value in measured.facts.items())
    reached = [f"{timed.name} {number(timed.teraflops)} TFLOP/s" for timed in measured.timed if timed.is_ceiling]
    taken = f", {max(measured.stolen):.1%} of a round at most taken by others of the host" if measured.stolen else ""
    where = f"- {machine['device']}, torch {machine['versions']['torch']}, {load}{taken}; {facts}"
    return [*lines, *([f"- {', '.join(reached)}"] if reached else []), where]


def _told(check: Check) -> str:
    verdict = "" if check.holds else ": DOES NOT HOLD, its speed does not count"
    return f"- {check.what}: {check.difference:.1e}, allowed {check.allowed:.0e}{verdict}"


def number(value: float) -> str:
    """Three digits, whatever the size."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
