"""Markdown in which names stay names: text that was not written here is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Final

_SPECIAL: Final = re.compile(r"[\\`*_<>|~&]|\](?=[(\[:])")  # a bracket alone is no link
_FENCES: Final = re.compile(r"`+")


def escape(text: str) -> str:
    """Text as it stands, on one line, also inside a table."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def code(text: str) -> str:
    """Text to be copied, such as a path or a command; not for tables, where a `|` would end the cell."""
    line = " ".join(text.splitlines())
    fence = "`" * (1 + max((len(found) for found in _FENCES.findall(line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Names at the left, numbers at the right; cells are Markdown already."""
    rule = [":---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def section(title: str, *blocks: str) -> str:
    """A heading and what is under it; nothing where nothing is under it."""
    filled = [block for block in blocks if block]
    return "\n\n".join([f"## {title}", *filled]) if filled else ""


def folded(title: str, *blocks: str) -> str:
    """Blocks that a click on the title opens, where the viewer knows HTML's `details`."""
    return "\n\n".join([f"<details><summary>{html.escape(title)}</summary>", *blocks, "</details>"])
