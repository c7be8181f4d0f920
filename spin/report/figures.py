"""How numbers are written: the same decimals in a column, true minus signs, intervals in brackets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spin.core.comparison import WinRate
from spin.core.statistics import Estimate, distinguishable
from spin.report.request import Column, Comparison

MINUS: Final = "\N{MINUS SIGN}"
NOTHING: Final = "\N{EN DASH}"
INDISTINCT: Final = "not distinguishable"


def number(value: float | None, digits: int) -> str:
    if value is None:
        return NOTHING
    return _rounded(value, digits).replace("-", MINUS)


def level(column: Column, value: float | None) -> str:
    """A value of a column: 87.53, or 88.7 % for a share."""
    if value is None:
        return NOTHING
    return f"{number(100 * value, 1)} %" if column.percent else number(value, column.digits)


def signed(column: Column, value: float) -> str:
    """A difference of a column: +0.85, or +9.8 pp for a share."""
    text = _rounded(100 * value, 1) if column.percent else _rounded(value, column.digits)
    sign = "" if text.startswith("-") or not float(text) else "+"
    return f"{sign}{text}".replace("-", MINUS) + (" pp" if column.percent else "")


def interval(column: Column, estimate: Estimate) -> str:
    scale, digits = (100.0, 1) if column.percent else (1.0, column.digits)
    return f"[{number(scale * estimate.low, digits)}, {number(scale * estimate.high, digits)}]"


def difference(column: Column, estimate: Estimate) -> str:
    return f"{signed(column, estimate.value)} {interval(column, estimate)}"


def share(value: float) -> str:
    return f"{100 * value:.0f} %"


def wins(found: WinRate) -> str:
    """Share of prompts won with its interval."""
    return bounded_share(found.share)


def bounded_share(found: Estimate) -> str:
    """A share with its interval: 80 % [49, 94]."""
    return f"{share(found.value)} {share_interval(found)}"


def wins_interval(found: WinRate) -> str:
    return share_interval(found.share)


def share_interval(found: Estimate) -> str:
    return f"[{100 * found.low:.0f}, {100 * found.high:.0f}]"


def favour(found: WinRate) -> str:
    """better, worse, or same where the interval holds one half."""
    if not distinguishable(found.share, from_value=0.5):
        return "same"
    return "better" if found.share.value > 0.5 else "worse"


def figures(value: float | None) -> str:
    """About three figures, for times whose size is not known before: 342, 5.7, 0.0022."""
    if value is None:
        return NOTHING
    return count(value) if value >= 100 else f"{value:.2g}"


def tally(found: WinRate) -> str:
    """Prompts won, tied and lost: 8 / 0 / 2."""
    return f"{found.wins} / {found.ties} / {found.losses}"


def outcome(column: Column, comparison: Comparison) -> str:
    """better, worse, or same where the interval holds 0."""
    if not distinguishable(comparison.difference):
        return "same"
    return "better" if (comparison.difference.value < 0) == column.lower_is_better else "worse"


def told(column: Column, comparison: Comparison) -> str:
    """A difference, and in words where it is none."""
    said = difference(column, comparison.difference)
    return f"{said}, {INDISTINCT}" if outcome(column, comparison) == "same" else said


def column_name(column: Column) -> str:
    """The title inside a sentence."""
    keeps = column.metric.startswith("frechet") or any(letter.isupper() for letter in column.title[1:])
    return column.title if keeps else column.title.lower()


def listed(items: Sequence[str], *, last: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s"


def count(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _rounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text  # no "-0.00"


def signed_percent(value: float) -> str:
    """A relative change: +1.2 %."""
    return signed(Column("", "", 1, False, True, percent=True), value).replace("pp", "%")
