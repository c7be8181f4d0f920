from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.errors import DataError
from spin.core.schema import read_table
from spin.core.store import verify
from spin.prepare.quarantine import count_reasons, refuse_bad_data, write_quarantine
from spin.prepare.rows import Rejection, Row, TargetData

GOOD = [Row(f"{i:032d}", "a", "train", f"m:{i}") for i in range(8)]
BAD = [
    Rejection("m:20", "no caption", "empty"),
    Rejection("m:21", "unreadable", "cut"),
    Rejection("m:22", "no caption", "missing"),
]


def data(good: int, bad: int) -> TargetData:
    return TargetData(GOOD[:good], BAD[:bad], lambda size, splits: iter(()))


def refusal(good: int, bad: int, share: float) -> str:
    with pytest.raises(DataError) as caught:
        refuse_bad_data(data(good, bad), max_bad_share=share, where=Path("own"), quarantine=Path("q.parquet"))
    return str(caught.value)


def test_the_quarantine_names_origin_reason_and_detail(tmp_path: Path) -> None:
    write_quarantine(tmp_path / "q.parquet", data(8, 3))
    verify(tmp_path / "q.parquet")
    rows = read_table(tmp_path / "q.parquet").to_pylist()
    assert rows[1] == {"origin": "m:21", "reason": "unreadable", "detail": "cut"}
    assert len(rows) == 3


def test_an_empty_quarantine_is_written_too(tmp_path: Path) -> None:
    write_quarantine(tmp_path / "q.parquet", data(8, 0))
    assert read_table(tmp_path / "q.parquet").num_rows == 0


def test_another_outcome_replaces_the_quarantine(tmp_path: Path) -> None:
    for bad in (3, 1):
        write_quarantine(tmp_path / "q.parquet", data(8, bad))
        assert read_table(tmp_path / "q.parquet").num_rows == bad


def test_a_bad_share_up_to_the_limit_passes() -> None:
    refuse_bad_data(data(6, 2), max_bad_share=0.25, where=None, quarantine=Path("q"))
    refuse_bad_data(data(8, 0), max_bad_share=0.0, where=None, quarantine=Path("q"))


def test_too_many_bad_rows_are_told_in_one_line_with_counts_the_first_and_the_way_out() -> None:
    assert refusal(7, 3, 0.29) == (
        "own: 3 of 10 rows cannot be used (2 no caption, 1 unreadable); first: m:20: no caption, empty; "
        "mend them (all are listed in q.parquet), or raise data.max_bad_share from 0.29"
    )


def test_no_good_row_is_refused_whatever_the_limit() -> None:
    assert "3 of 3 rows cannot be used" in refusal(0, 3, 1.0)
    assert "max_bad_share" not in refusal(0, 3, 1.0)
    assert "holds no rows" in refusal(0, 0, 1.0)


def test_reasons_are_counted_the_most_frequent_first() -> None:
    assert list(count_reasons(data(8, 3)).items()) == [("no caption", 2), ("unreadable", 1)]
