from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin.core.errors import DataError
from spin.core.layout import RealCache, RunsRoot
from spin.core.schema import read_table
from spin.core.store import read_manifest
from spin.prepare.own_data import read_own_data
from spin.prepare.pickapic import open_pickapic
from spin.prepare.request import PrepareRequest
from spin.prepare.room import run
from spin.prepare.rows import TargetData, sample_id
from tests.pickapic import LEFT, RIGHT, TIE, row, write_pickapic

MakeRequest = Callable[..., PrepareRequest]
ALL = frozenset({"train", "validation", "test"})


def read(path: Path, **changes: Any) -> TargetData:
    values: dict[str, Any] = {
        "source": "pickapic", "image_column": "image", "caption_column": "text", "train_rows": None,
        "held_out_share": 0.2, "max_image_pixels": 10_000,
    }  # fmt: skip
    return read_own_data(path, **{**values, **changes})


def ids(rows: Sequence[dict[str, Any]], sides: Sequence[int]) -> set[str]:
    return {sample_id(row[f"jpg_{side}"], row["caption"]) for row, side in zip(rows, sides, strict=True)}


def test_the_winner_of_each_row_is_the_picture_whose_label_is_one(tmp_path: Path) -> None:
    rows = [row(i, RIGHT if i % 3 else LEFT) for i in range(12)]
    data = read(write_pickapic(tmp_path / "a.parquet", rows))
    assert {r.sample_id for r in data.rows} == ids(rows, [1 if i % 3 else 0 for i in range(12)])
    assert dict(data.dropped) == {}
    assert list(data.rejections) == []
    assert data.losers is None


def test_ties_and_rows_without_a_label_are_left_out_counted_and_not_bad(tmp_path: Path) -> None:
    good = [row(i) for i in range(10)]
    left_out = [
        row(20, TIE), row(21, TIE), row(22, TIE), row(23, (None, None)), row(24, (0.5, None)),
        row(25, LEFT, has_label=False), row(26, (float("nan"), 0.0)),
    ]  # fmt: skip
    data = read(write_pickapic(tmp_path / "a.parquet", [*left_out, *good]))
    assert dict(data.dropped) == {"no label": 4, "tie": 3}
    assert {r.sample_id for r in data.rows} == ids(good, [0] * 10)
    assert list(data.rejections) == []


def test_labels_that_contradict_each_other_are_bad(tmp_path: Path) -> None:
    rows = [*(row(i) for i in range(9)), row(30, (1.0, 1.0)), row(31, (0.0, 0.0)), row(32, (0.5, 1.0))]
    data = read(write_pickapic(tmp_path / "a.parquet", rows))
    assert [(r.origin, r.reason, r.detail) for r in data.rejections] == [
        ("a.parquet:10", "labels disagree", "label_0 1.0, label_1 1.0"),
        ("a.parquet:11", "labels disagree", "label_0 0.0, label_1 0.0"),
        ("a.parquet:12", "labels disagree", "label_0 0.5, label_1 1.0"),
    ]


def test_a_winner_that_wins_again_under_its_caption_is_one_row_and_under_another_two(tmp_path: Path) -> None:
    first = row(3)
    again = row(3, RIGHT, jpg_1=first["jpg_0"], jpg_0=row(9)["jpg_0"])
    other = row(3, caption="something else")
    rows = [*(row(i) for i in range(8)), again, again, other]
    data = read(write_pickapic(tmp_path / "a.parquet", rows), pairs=True)
    assert dict(data.dropped) == {"winner met before": 2}
    assert len(data.rows) == 9
    kept = next(r for r in data.rows if r.origin == "a.parquet:4")
    again_kept = read(write_pickapic(tmp_path / "b.parquet", [again, *rows]), pairs=True)
    assert next(r for r in again_kept.rows if r.sample_id == kept.sample_id).loser != kept.loser  # the first one's


def test_losers_come_where_pairs_are_asked_for_and_each_beside_its_winner(tmp_path: Path) -> None:
    rows = [row(i, RIGHT if i % 2 else LEFT) for i in range(10)]
    rows[4] |= {"jpg_1": rows[4]["jpg_1"][:50]}
    file = write_pickapic(tmp_path / "a.parquet", rows)
    data = read(file, pairs=True)
    assert [(r.origin, r.reason) for r in data.rejections] == [("a.parquet:5", "no loser")]
    assert data.losers is not None
    winners, losers = dict(data.pictures(16, ALL)), dict(data.losers(16, ALL))
    place = {int(r.origin.partition(":")[2]) - 1: number for number, r in enumerate(data.rows)}
    for i in (0, 1, 2, 6, 7):  # scan i + 1 loses on the right of even rows; scan i on the left of odd ones
        if i % 2 == 0:
            assert np.array_equal(losers[place[i]], winners[place[i]]) is False
            assert data.rows[place[i]].loser != ""
    assert np.array_equal(losers[place[0]], winners[place[0]]) is False
    assert len(read(file).rows) == 10


def test_all_rows_of_one_caption_stand_on_one_side_of_the_held_out_cut(tmp_path: Path) -> None:
    rows = [row(i, caption=f"caption {i // 5}") for i in range(200)]
    data = read(write_pickapic(tmp_path / "a.parquet", rows), held_out_share=0.3)
    sides: dict[str, set[str]] = {}
    for r in data.rows:
        sides.setdefault(r.caption, set()).add(r.split)
    assert all(len(splits) == 1 for splits in sides.values())
    assert set().union(*sides.values()) == ALL


def test_of_a_copy_of_the_repository_only_the_train_split_is_read(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "validation", "test_unique", "validation_unique", "test")):
        rows = [row(10 * number + i) for i in range(8)]
        write_pickapic(tmp_path / "data" / f"{split}-00000-of-00001-ab12.parquet", rows)
    data = read(tmp_path)
    assert {r.origin.partition(":")[0] for r in data.rows} == {"data/train-00000-of-00001-ab12.parquet"}
    (tmp_path / "data" / "train-00000-of-00001-ab12.parquet").unlink()
    with pytest.raises(DataError, match="holds only test, test_unique, validation, validation_unique, not the train"):
        open_pickapic(tmp_path, pairs=False)


def test_a_table_without_the_columns_is_named(tmp_path: Path) -> None:
    file = tmp_path / "own.parquet"
    pq.write_table(pa.table({"image": pa.array([b"x"]), "caption": ["a"]}), file)
    with pytest.raises(DataError, match=r"own\.parquet: no column 'jpg_0', so not Pick-a-Pic; columns are"):
        open_pickapic(file, pairs=False)
    pq.write_table(pa.Table.from_pylist([row(0) | {"jpg_1": "x"}]), file)
    with pytest.raises(DataError, match="column 'jpg_1' holds string, not pictures"):
        open_pickapic(file, pairs=False)


def test_counts_stand_in_the_answer_and_in_the_manifest_of_the_prompts(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    rows = [*(row(i) for i in range(20)), *(row(30 + i, TIE) for i in range(40)), row(5), row(6)]
    rows[19] |= {"jpg_0": b"no picture"}
    file = write_pickapic(tmp_path / "a.parquet", rows)
    request = make_request(source="pickapic", path=file, rows=12)
    result = run(request)  # 40 ties of 62 rows are no bad rows: max_bad_share is 0.1
    assert result.dropped == {"tie": 40, "winner met before": 2}
    assert result.quarantined == {"unreadable": 1}
    manifest = read_manifest(RunsRoot(request.runs_root).run(request.run).prompts)
    assert manifest is not None
    held_out = result.rows["validation"] + result.rows["test"]
    assert manifest.environment["counts"] == {
        "met": 62, "kept": 12 + held_out, "not asked for": 19 - 12 - held_out,
        "dropped": {"tie": 40, "winner met before": 2}, "quarantined": {"unreadable": 1},
    }  # fmt: skip


def test_winners_and_losers_are_encoded_from_the_same_door(make_request: MakeRequest, tmp_path: Path) -> None:
    file = write_pickapic(tmp_path / "a.parquet", [row(i, RIGHT if i % 2 else LEFT) for i in range(12)])
    alone = run(make_request(source="pickapic", path=file))
    both = run(make_request(source="pickapic", path=file, pairs=True, losers=True, run="dpo"))
    assert alone.data_digest == both.data_digest
    assert both.encoded == both.rows["train"]  # the winners stand
    losers = read_table(RealCache(both.real).losers)
    assert len(losers) == both.rows["train"]


def test_data_of_ties_alone_is_refused_with_the_counts(make_request: MakeRequest, tmp_path: Path) -> None:
    file = write_pickapic(tmp_path / "a.parquet", [row(i, TIE) for i in range(9)])
    with pytest.raises(DataError, match=r"no row is left \(9 tie\); set data.path to labelled rows"):
        run(make_request(source="pickapic", path=file))
