"""`query`: one question in SQL about everything that was measured, answered as a table, CSV or JSON."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.report.database import open_database
from tasks.showing import console

Format = Literal["table", "csv", "json"]
_READING: Final = frozenset({"SELECT", "EXPLAIN", "MULTI"})  # MULTI is what PIVOT becomes
_ROWS_AT_ONCE: Final = 1000
_ROWS_SHOWN: Final = 1000  # on a terminal


def query(root: Path, sql: str, *, form: Format, with_bytes: bool) -> None:
    """Answer a question on standard output; what had to be left out is told on standard error."""
    database = open_database(RunsRoot(root.absolute()), with_bytes=with_bytes)
    names, rows = _answer(database.connection, sql)
    {"table": _print_table, "csv": _print_csv, "json": _print_json}[form](names, rows)
    for notice in database.notices:
        sys.stderr.write(f"{notice}\n")


def _answer(connection: Any, sql: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Names of the columns, and rows as they are asked for."""
    import duckdb

    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise ConfigError(f"holds {len(statements)} statements", where="query", fix="write one")
        if statements[0].type.name not in _READING:
            raise ConfigError(f"is no question, but {statements[0].type.name}", where="query", fix="write a SELECT")
        result = connection.execute(statements[0])
        names = _told_apart([column[0] for column in result.description])
        first = result.fetchmany(_ROWS_AT_ONCE)  # most errors of values come here, before anything is printed
    except duckdb.Error as error:
        raise _refusal(error) from None
    return names, _rows(result, first)


def _rows(result: Any, first: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    import duckdb

    rows = first
    while rows:
        yield from rows
        try:
            rows = result.fetchmany(_ROWS_AT_ONCE)
        except duckdb.Error as error:
            raise _refusal(error) from None


def _refusal(error: Exception) -> ConfigError:
    """DuckDB's message without the drawing of the place in the query."""
    message = " ".join(str(error).partition("\n\nLINE ")[0].split())
    return ConfigError(message, where="query", fix="SHOW TABLES and DESCRIBE <table> tell what there is")


def _told_apart(names: Sequence[str]) -> list[str]:
    """`a.score, b.score` are both called score: the second is score_2."""
    count: dict[str, int] = {}
    found = []
    for name in names:
        count[name] = count.get(name, 0) + 1
        found.append(name if count[name] == 1 else f"{name}_{count[name]}")
    return found


def _print_table(names: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown: list[tuple[Any, ...]] = []
    more = False
    for row in rows:
        if len(shown) == _ROWS_SHOWN:
            more = True
            break
        shown.append(row)
    for number, name in enumerate(names):
        numbers = all(isinstance(row[number], int | float | Decimal | None) for row in shown)
        table.add_column(Text(_printable(name)), justify="right" if numbers and shown else "left")
    for row in shown:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)
    if more:
        console.print(f"the first {_ROWS_SHOWN} rows; --format csv gives all", highlight=False)


def _print_csv(names: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_flat(value) for value in row] for row in rows)


def _print_json(names: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    separator = "[\n"
    for row in rows:
        values = dict(zip(names, map(_plain, row), strict=True))
        sys.stdout.write(separator + json.dumps(values, ensure_ascii=False, allow_nan=False))
        separator = ",\n"
    sys.stdout.write("\n]\n" if separator == ",\n" else "[]\n")


def _plain(value: Any) -> Any:
    """A value that JSON has; NaN and infinity are null, bytes are hex digits."""
    if isinstance(value, Decimal):
        value = float(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _flat(value: Any) -> Any:
    """A value as one cell: numbers as they are, NaN too; lists and structs as JSON."""
    if value is None or isinstance(value, bool | int | float | str | Decimal):
        return value
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else plain


def _cell(value: Any) -> str:
    """Text for a terminal, six figures of a number, nothing in it that a terminal would obey."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return _printable(str(_flat(value)))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)
