"""What was judged, on disk: a million rows in the memory of a few.

A temporary database of SQLite, gone with its process: in memory up to 16 MiB, beyond that in a file of the system's
folder for such (TMPDIR or /var/tmp), 300 bytes a row. Rows wait there for their split, their number and their picture.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, overload

from spin.core.buckets import Size
from spin.core.rejecting import Rejected
from spin.miniature.world import Split
from spin.prepare.candidates import DUPLICATE
from spin.prepare.rows import Rejection, Row, held_out_cuts, split_position

Item = TypeVar("Item")

_AT_ONCE: Final = 1024  # rows of an answer in memory
_NO_END: Final = 1 << 62
_SCHEMA: Final = """
    PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;
    CREATE TABLE good (met INTEGER PRIMARY KEY, id BLOB UNIQUE, position REAL, caption TEXT, origin TEXT, loser TEXT,
        unsafe INTEGER, height INTEGER, width INTEGER);
    CREATE TABLE bad (number INTEGER PRIMARY KEY, origin TEXT, reason TEXT, detail TEXT);
    CREATE TABLE dropped (rule TEXT PRIMARY KEY, rows INTEGER);
    CREATE TABLE ranked (met INTEGER PRIMARY KEY, split TEXT);
    CREATE TABLE chosen (
        number INTEGER PRIMARY KEY, met INTEGER UNIQUE, id TEXT, caption TEXT, split TEXT, origin TEXT, loser TEXT,
        unsafe INTEGER, height INTEGER, width INTEGER);
    BEGIN
"""
_RANK: Final = """
    INSERT INTO ranked SELECT met, CASE
        WHEN rank <= :validation THEN 'validation' WHEN rank <= :held_out THEN 'test' ELSE 'train' END
        FROM (SELECT met, row_number() OVER (ORDER BY position, met) AS rank FROM good)
"""
_CHOOSE: Final = """
    INSERT INTO chosen
        SELECT row_number() OVER (ORDER BY id) - 1, met, lower(hex(id)), caption, split, origin, loser, unsafe,
            iif(split = 'train', height, 0), iif(split = 'train', width, 0)
        FROM good JOIN ranked USING (met) WHERE split != 'train' OR met <= ?
"""
_LAST: Final = "SELECT met FROM ranked WHERE split = 'train' ORDER BY met LIMIT 1 OFFSET ?"
_ROW: Final = "id, caption, split, origin, loser, unsafe, height, width"
_OF_SPLITS: Final = f"SELECT met, number, {_ROW} FROM chosen WHERE split IN (?, ?, ?) ORDER BY met"


@dataclass(frozen=True)
class Stored(Sequence[Item], Generic[Item]):
    """Numbered rows of a table, read when they are asked for."""

    database: sqlite3.Connection
    query: str
    first: int  # number of the first row
    length: int
    make: Callable[..., Item]

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Item]:
        return (self.make(*row) for row in _answers(self.database, f"{self.query} ORDER BY number"))

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        numbers = range(self.first, self.first + self.length)[index]
        if isinstance(numbers, range):
            return [self[number - self.first] for number in numbers]
        return self.make(*self.database.execute(f"{self.query} WHERE number = ?", (numbers,)).fetchone())


class Ledger:
    """Rows as they are judged, in the order of their source; after `split` they have a number and a split."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)

    def refuse_repeated(self, identity: str) -> None:
        """Rejected where a row of this identity was kept before."""
        query = "SELECT origin FROM good WHERE id = ?"
        if first := self._database.execute(query, (bytes.fromhex(identity),)).fetchone():
            raise Rejected(DUPLICATE, f"same picture and caption as {first[0]}")

    def keep(
        self, *, met: int, identity: str, group: str, caption: str, origin: str, loser: str, unsafe: bool | None = None,
        bucket: Size | None = None,
    ) -> None:  # fmt: skip
        """A good row.

        Args:
            met: its place among all rows of the source.
            identity: 32 hex digits, of no row before.
            group: decides the split; rows of one group are parted in tiny data only.
            unsafe: what a safety checker said; None: none looked.
            bucket: that it takes should it be a train row: held-out pictures are squares, in whatever run.
        """
        said = (met, bytes.fromhex(identity), split_position(group), caption, plain(origin), loser, unsafe)
        self._database.execute("INSERT INTO good VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", said + (bucket or (0, 0)))

    def reject(self, origin: str, reason: str, detail: str) -> None:
        """A bad row."""
        self._database.execute("INSERT INTO bad VALUES (NULL, ?, ?, ?)", (plain(origin), reason, plain(detail)))

    def drop(self, rule: str) -> None:
        """A row that is not bad, but that a rule leaves out."""
        query = "INSERT INTO dropped VALUES (?, 1) ON CONFLICT DO UPDATE SET rows = rows + 1"
        self._database.execute(query, (rule,))

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that a rule left out, by rule, the most frequent first."""
        return dict(self._database.execute("SELECT rule, rows FROM dropped ORDER BY rows DESC, rule"))

    @property
    def rejections(self) -> Sequence[Rejection]:
        count = self._number("SELECT count(*) FROM bad")
        return Stored(self._database, "SELECT origin, reason, detail FROM bad", 1, count, Rejection)

    def split(self, *, held_out_share: float, train_rows: int | None) -> tuple[Sequence[Row], int]:
        """The rows in the order of their identity, and how many good train rows are not among them.

        Args:
            train_rows: only so many train rows, the first of the source, are chosen.
        """
        below = [
            self._number("SELECT count(*) FROM good WHERE position < ?", share * held_out_share) for share in (0.5, 1)
        ]
        total = self._number("SELECT count(*) FROM good")
        validation, held_out = held_out_cuts(*below, total=total)
        self._database.execute(_RANK, {"validation": validation, "held_out": held_out})
        last = None if train_rows is None else self._database.execute(_LAST, (train_rows - 1,)).fetchone()
        self._database.execute(_CHOOSE, last or (_NO_END,))
        chosen = self._number("SELECT count(*) FROM chosen")
        return Stored(self._database, f"SELECT {_ROW} FROM chosen", 0, chosen, Row), total - chosen

    def in_order_met(self, splits: Set[Split]) -> Iterator[tuple[int, int, Row]]:
        """(place in the source, number, row) of the chosen rows of some splits, in the order of the source."""
        asked = [split if split in splits else None for split in ("train", "validation", "test")]
        return ((met, number, Row(*row)) for met, number, *row in _answers(self._database, _OF_SPLITS, asked))

    def _number(self, query: str, *values: float) -> int:
        found: int = self._database.execute(query, values).fetchone()[0]
        return found


def plain(text: str) -> str:
    """Text that a file can hold: a name that is no UTF-8 with its odd bytes written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _answers(database: sqlite3.Connection, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
    found = database.execute(query, values)
    while rows := found.fetchmany(_AT_ONCE):
        yield from rows
