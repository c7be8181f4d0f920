"""History of the nightly evaluations of a runs root: one growing file, a row per metric.

An append replaces the file in one step under a lock, so that two at a time lose nothing. The file holds a
digest of its own rows; a damaged one is set aside under another name, and a new history begins.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.draft import draft_path, fill, fsync, sweep
from spin.core.errors import ArtifactError
from spin.core.layout import RunsRoot
from spin.core.schema import write_table

NIGHTS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("night", "evaluated_at", "run", "stage", "label", "checkpoint")),
        *((name, pa.string()) for name in ("benchmark", "protocol", "metric")),
        *((name, pa.float64()) for name in ("mean", "low", "high")),
        ("images", pa.int64()),
        ("config", pa.string()),
    ]
)
_DIGEST: Final = b"rows-sha256"


@dataclass(frozen=True)
class Night:
    """One metric of one checkpoint on one benchmark in one night."""

    night: str  # local date, 2026-11-21
    evaluated_at: str  # UTC, ISO 8601
    run: str
    stage: str  # base, sft, iteration-01, ...
    label: str  # what the report calls it
    checkpoint: str  # digest
    benchmark: str
    protocol: str
    metric: str
    mean: float
    low: float | None  # None where the metric has no interval
    high: float | None
    images: int
    config: str = ""  # hash of the evaluation's settings

    @property
    def key(self) -> tuple[str, ...]:
        """What stays once, however often it is appended."""
        return (self.night, *self.series, self.checkpoint, self.metric)

    @property
    def series(self) -> tuple[str, ...]:
        """What must be equal for two nights to be comparable."""
        return (self.run, self.benchmark, self.protocol, self.config)


class _Damage(Exception):
    """Bytes that are no history, or not the one that was written."""


def night_of(moment: datetime, timezone: str) -> str:
    """Local date of a moment, as a history names its nights."""
    return moment.astimezone(ZoneInfo(timezone)).date().isoformat()


def append_nights(root: RunsRoot, rows: Sequence[Night]) -> None:
    """Add the rows that are not there yet; raises after that, once, where a damaged history was set aside."""
    path = root.nights
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            standing, aside = _standing(path)
            known = {row.key for row in standing}
            fresh = {row.key: row for row in reversed(rows) if row.key not in known}
            if fresh:
                _replace(path, [*standing, *reversed(fresh.values())])
    except OSError as error:
        raise ArtifactError(f"cannot write: {error.strerror}", where=str(path), fix="free space or rights") from error
    if aside is not None:
        raise _told(path, aside)


def read_nights(root: RunsRoot) -> list[Night]:
    """All rows in the order in which they came; raises, once, where a damaged history had to be set aside."""
    path = root.nights
    try:
        try:
            return _load(path)
        except _Damage:
            with _locked(path):
                standing, aside = _standing(path)
    except OSError as error:
        raise ArtifactError(f"cannot read: {error.strerror}", where=str(path), fix="give rights to it") from error
    if aside is not None:
        raise _told(path, aside)
    return standing


def trend(nights: Sequence[Night], metrics: Sequence[str] = (), *, last: int = 90) -> list[dict[str, str]]:
    """Table of the means, the newest night first: a row per (night, run, checkpoint, benchmark, settings).

    Args:
        metrics: columns, in this order; default, all that were measured.
        last: nights to show.

    Returns:
        Text in every cell: `0.876 (+0.012)` is the mean, and its change against the last earlier night of the
        same run, benchmark, protocol and settings; the change is left out where there is none.
    """
    ordered = sorted(nights, key=lambda row: (row.night, row.evaluated_at))
    columns = list(metrics or dict.fromkeys(row.metric for row in ordered))
    shown = set(sorted({row.night for row in ordered})[-last:])
    table: dict[tuple[str, ...], dict[str, str]] = {}
    for row, before in _with_the_night_before(ordered):
        if row.night not in shown or row.metric not in columns:
            continue
        line = table.setdefault(row.key[:-1], {
            "night": row.night, "run": row.run, "model": row.label, "checkpoint": row.checkpoint[:12],
            "benchmark": ".".join(filter(None, (row.benchmark, row.protocol, row.config))), "images": str(row.images),
            **dict.fromkeys(columns, ""),
        })  # fmt: skip
        line[row.metric] = _cell(row, before)
    return list(table.values())[::-1]


def _with_the_night_before(ordered: Sequence[Night]) -> Iterator[tuple[Night, Night | None]]:
    """Each row, and the last one of an earlier night in its series."""
    newest: dict[tuple[str, ...], tuple[Night, Night | None]] = {}
    for row in ordered:
        series = (*row.series, row.metric)
        other, before = newest.get(series, (row, None))
        newest[series] = (row, other if other.night < row.night else before)
        yield newest[series]


def _cell(row: Night, before: Night | None) -> str:
    digits = 2 if abs(row.mean) >= 1 else 3 if abs(row.mean) >= 0.1 else 5  # about four figures
    text = f"{row.mean:.{digits}f}"
    return text if before is None else f"{text} ({row.mean - before.mean:+.{digits}f})"


def _standing(path: Path) -> tuple[list[Night], Path | None]:
    """Under the lock: the rows that stand, and where a damaged history has been put."""
    try:
        return _load(path), None
    except _Damage:
        names = (path.with_name(f"{path.stem}.damaged-{number}{path.suffix}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        path.rename(aside)
        return [], aside


def _told(path: Path, aside: Path) -> ArtifactError:
    return ArtifactError(
        f"was damaged and now stands beside it as {aside.name}; a new history has begun",
        where=str(path),
        fix="restore it from a copy, or go on without",
    )


def _load(path: Path) -> list[Night]:
    try:
        data = path.read_bytes()  # apart from what is made of it: a disk that cannot be read is no damage
    except FileNotFoundError:
        return []
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            table = file.read()
        rows = [Night(**row) for row in table.to_pylist()]
        whole = (table.schema.metadata or {}).get(_DIGEST) == _digest(rows)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise _Damage from error
    if not whole:  # checksums guard the pages only: a changed footer gives other values, or other types
        raise _Damage
    return rows


def _replace(path: Path, rows: Sequence[Night]) -> None:
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=NIGHTS)
    draft = draft_path(path)
    try:
        fill(draft, lambda target: write_table(target, table.replace_schema_metadata({_DIGEST: _digest(rows)})))
        fsync(draft)
        draft.replace(path)
        fsync(path.parent)
    finally:
        sweep(path)


def _digest(rows: Sequence[Night]) -> bytes:
    text = json.dumps([asdict(row) for row in rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest().encode()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time; the lock is a file of its own, because the history's is replaced."""
    with path.with_name(f".{path.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
