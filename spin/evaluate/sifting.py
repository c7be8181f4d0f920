"""Sifts rows of prompts: good ones go on, bad ones and repeated ones are set aside with their reasons.

Works in batches, so that a million prompts need no more memory than a few thousand, but for 16 bytes each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spin.evaluate.prompts import (
    CLIP_TOKENS,
    DUPLICATE,
    UNREADABLE,
    BadPrompt,
    PromptRecord,
    clean_label,
    clean_prompt,
    prompt_id,
)

CountTokens = Callable[[list[str]], list[int]]
Row = dict[str, Any]  # of PROMPT_SET, or of QUARANTINE
_BATCH_ROWS: Final = 4096
_GROUP_ROWS: Final = 8192


@dataclass
class Sieve:
    """What was read so far, and what was set aside.

    Args:
        set_aside: takes rows of QUARANTINE.
        count_tokens: lengths of prompts in tokens, start and end token among them, nothing cut off; None: not counted.
        limit: good rows after which reading ends; None: all.
    """

    set_aside: Callable[[Sequence[Row]], None]
    count_tokens: CountTokens | None
    limit: int | None
    read: int = 0
    kept: int = 0
    truncated: int = 0
    duplicates: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: str | None = None
    _known: SeenHashes = field(default_factory=lambda: SeenHashes())

    def sift(self, records: Iterable[PromptRecord]) -> Iterator[list[Row]]:
        """The good rows, in the order of the records; of equal prompts the first stays."""
        source = iter(records)
        while not self._full and (batch := list(islice(source, _BATCH_ROWS))):
            rows = self._judge(batch)
            self._count_tokens(rows)
            yield rows

    @property
    def _full(self) -> bool:
        return self.limit is not None and self.kept >= self.limit

    def _judge(self, batch: Sequence[PromptRecord]) -> list[Row]:
        judged = [_judged(record) for record in batch]
        fresh = iter(self._known.add([row["prompt_id"] for row in judged if "prompt_id" in row]))
        good: list[Row] = []
        aside: list[Row] = []
        for row in judged:
            if self._full:
                break
            self.read += 1
            if "prompt_id" not in row:
                self.bad[row["reason"]] += 1
                self.first_bad = self.first_bad or f"{row['origin']}: {row['reason']}, {row['detail']}"
                aside.append(row)
            elif next(fresh):
                self.kept += 1
                good.append(row)
            else:
                self.duplicates += 1
                detail = f"an earlier row is the same prompt, {row['prompt_id']}"
                aside.append({"origin": row["origin"], "reason": DUPLICATE, "detail": detail})
        self.set_aside(aside)
        return good

    def _count_tokens(self, rows: Sequence[Row]) -> None:
        if self.count_tokens is None or not rows:
            return
        counts = self.count_tokens([row["prompt"] for row in rows])
        for row, count in zip(rows, counts, strict=True):
            row["tokens"], row["truncated"] = int(count), int(count) > CLIP_TOKENS
        self.truncated += sum(row["truncated"] for row in rows)


def _judged(record: PromptRecord) -> Row:
    """A row of PROMPT_SET, or of QUARANTINE where the prompt cannot be used."""
    try:
        if record.problem is not None:
            raise BadPrompt(UNREADABLE, record.problem)
        prompt = clean_prompt(record.prompt)
    except BadPrompt as bad:
        place = "" if record.column is None else f"column {record.column!r}: "
        return {"origin": record.origin, "reason": bad.reason, "detail": place + bad.detail}
    return {
        "prompt_id": prompt_id(prompt),
        "prompt": prompt,
        "category": clean_label(record.category),
        "challenge": clean_label(record.challenge),
        "tokens": None,
        "truncated": None,
        "origin": record.origin,
    }


class SeenHashes:
    """Which hashes came before, in 16 bytes each; a set of strings would take about 150.

    Sorted runs of growing length, merged as they fill up: n hashes are sorted log n times.
    """

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.bytes_]] = []

    def add(self, hashes: Sequence[str]) -> list[bool]:
        """True for each hash (32 hex digits) that came neither before nor earlier in this call."""
        if not hashes:
            return []
        values = np.array([bytes.fromhex(value) for value in hashes], "S16")
        unique, first = np.unique(values, return_index=True)
        new = np.ones(len(unique), bool)
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, unique), len(run) - 1)
            new &= run[place] != unique
        self._merge(unique[new])
        fresh = np.zeros(len(values), bool)
        fresh[first[new]] = True
        found: list[bool] = fresh.tolist()
        return found

    def _merge(self, run: npt.NDArray[np.bytes_]) -> None:
        if not len(run):
            return
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]))


class RowFile:
    """A Parquet file written in row groups of one size, whatever the batches: equal rows give equal bytes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, use_dictionary=False, write_page_checksum=True)
        self._schema = schema
        self._waiting: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        self._waiting += rows
        while len(self._waiting) >= _GROUP_ROWS:
            self._write(self._waiting[:_GROUP_ROWS])
            del self._waiting[:_GROUP_ROWS]

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None and self._waiting:
            self._write(self._waiting)
        self._writer.close()

    def _write(self, rows: Sequence[Row]) -> None:
        self._writer.write_table(pa.Table.from_pylist(list(rows), schema=self._schema))
