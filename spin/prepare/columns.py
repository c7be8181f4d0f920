"""A column that is not there: one line that names those that are."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from spin.core.errors import DataError


def require_column(name: str, columns: Sequence[str], *, key: str, where: Path) -> None:
    """Raise unless `name` is one of `columns`; `key` is the config key that chooses it."""
    if name in columns:
        return
    lowered = {column.lower(): column for column in columns}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    fix = f"did you mean {key}={lowered[near[0]]}?" if near else f"set {key} to one of them"
    raise DataError(f"no column {name!r}; columns are {', '.join(columns) or 'none'}", where=str(where), fix=fix)
