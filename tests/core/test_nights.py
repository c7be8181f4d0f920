from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin.core.config_rules import RESERVED_RUN_NAMES
from spin.core.errors import ArtifactError
from spin.core.layout import RunsRoot
from spin.core.nights import Night, append_nights, night_of, read_nights, trend

HOUSE = Path(__file__).resolve().parents[2]
ONE = Night(
    night="2026-11-20", evaluated_at="2026-11-20T03:30:12+00:00", run="try", stage="iteration-01", label="SPIN 1",
    checkpoint="a" * 64, benchmark="test", protocol="single", metric="alignment", mean=0.25, low=0.2, high=0.3,
    images=256, config="c1",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> RunsRoot:
    return RunsRoot(tmp_path / "runs")


def flipped(path: Path, position: int, *, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1 << bit
    path.write_bytes(bytes(raw))


def beside(root: RunsRoot) -> list[str]:
    return sorted(path.name for path in root.nights.parent.iterdir())


def test_rows_come_back_as_they_were_appended_and_in_their_order(root: RunsRoot) -> None:
    assert read_nights(root) == []
    rows = [ONE, replace(ONE, metric="frechet", mean=87.5, low=None, high=None), replace(ONE, night="2026-11-19")]
    append_nights(root, rows[:2])
    append_nights(root, rows[2:])
    assert read_nights(root) == rows


def test_no_run_can_have_the_name_of_the_history(root: RunsRoot) -> None:
    assert root.nights.relative_to(root.path).parts[0] in RESERVED_RUN_NAMES


def test_nothing_is_added_by_no_rows(root: RunsRoot) -> None:
    append_nights(root, [])
    assert read_nights(root) == []
    append_nights(root, [ONE])
    before = root.nights.stat().st_mtime_ns, root.nights.stat().st_ino
    append_nights(root, [])
    append_nights(root, [ONE])
    assert (root.nights.stat().st_mtime_ns, root.nights.stat().st_ino) == before


def test_the_same_evaluation_stays_once(root: RunsRoot) -> None:
    append_nights(root, [ONE, replace(ONE, mean=0.5)])
    append_nights(root, [replace(ONE, evaluated_at="2026-11-20T09:00:00+00:00", mean=0.75)])
    assert read_nights(root) == [ONE]


@pytest.mark.parametrize(
    "change",
    [
        {"night": "2026-11-21"}, {"checkpoint": "b" * 64}, {"benchmark": "validation"}, {"config": "c2"},
        {"protocol": "best-of-5"}, {"metric": "frechet"}, {"run": "another"},
    ],
)  # fmt: skip
def test_another_evaluation_stays_beside_it(root: RunsRoot, change: dict[str, str]) -> None:
    append_nights(root, [ONE])
    append_nights(root, [replace(ONE, **change)])
    assert read_nights(root) == [ONE, replace(ONE, **change)]


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from spin.core.layout import RunsRoot
from spin.core.nights import append_nights
from tests.core.test_nights import ONE

root, run = RunsRoot(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    append_nights(root, [replace(ONE, run=run, night=f"night {number:02d}")])
"""


def test_two_processes_that_append_at_once_lose_nothing(root: RunsRoot) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root.path), run], cwd=HOUSE, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )
        for run in ("one", "two")
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    found = read_nights(root)
    for run in ("one", "two"):
        assert [row.night for row in found if row.run == run] == [f"night {number:02d}" for number in range(40)]
    assert len(found) == 80
    assert beside(root) == [".nights.parquet.lock", "nights.parquet"]


KILLED = """
import os, sys
from dataclasses import replace
from pathlib import Path
from spin.core import nights
from spin.core.layout import RunsRoot
from tests.core.test_nights import ONE

nights.fsync = lambda path: os._exit(9)
nights.append_nights(RunsRoot(Path(sys.argv[1])), [replace(ONE, night="later")])
"""


def test_an_append_that_was_killed_leaves_the_old_history(root: RunsRoot) -> None:
    append_nights(root, [ONE])
    before = root.nights.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(root.path)], cwd=HOUSE, check=False)
    assert done.returncode == 9
    assert root.nights.read_bytes() == before
    append_nights(root, [replace(ONE, night="2026-11-21")])
    assert [row.night for row in read_nights(root)] == ["2026-11-20", "2026-11-21"]
    assert beside(root) == [".nights.parquet.lock", "nights.parquet"]


def damages(data: bytes) -> Iterator[bytes]:
    yield b""
    yield b"no Parquet"
    yield data[: len(data) // 2]
    yield data[:-1]


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_history_is_set_aside_and_told_in_one_line(root: RunsRoot, number: int) -> None:
    append_nights(root, [ONE])
    damaged = list(damages(root.nights.read_bytes()))[number]
    root.nights.write_bytes(damaged)
    with pytest.raises(
        ArtifactError,
        match=r"nights\.parquet: was damaged and now stands beside it as nights\.damaged-1\.parquet",
    ) as error:
        read_nights(root)
    assert "\n" not in str(error.value)
    assert root.nights.with_name("nights.damaged-1.parquet").read_bytes() == damaged
    assert read_nights(root) == []
    append_nights(root, [ONE])
    assert read_nights(root) == [ONE]


def test_what_is_appended_to_a_damaged_history_is_kept(root: RunsRoot) -> None:
    """Twice, so that the second one set aside does not take the place of the first."""
    kept = []
    for number in (1, 2):
        append_nights(root, [ONE])
        flipped(root.nights, 60)
        kept.append(root.nights.read_bytes())
        later = replace(ONE, night=f"2026-12-0{number}")
        with pytest.raises(ArtifactError, match=rf"nights\.damaged-{number}\.parquet"):
            append_nights(root, [later])
        assert read_nights(root) == [later]
    assert [root.nights.with_name(f"nights.damaged-{number}.parquet").read_bytes() for number in (1, 2)] == kept


@pytest.mark.slow
def test_no_flipped_bit_changes_a_row_unseen(root: RunsRoot) -> None:
    """A bit of every third byte: the history reads as before, or it is damaged."""
    append_nights(root, [ONE, replace(ONE, metric="frechet", mean=87.5)])
    data, rows = root.nights.read_bytes(), read_nights(root)
    aside = root.nights.with_name("nights.damaged-1.parquet")
    seen = 0
    for position in range(0, len(data), 3):
        flipped(root.nights, position, bit=6)
        try:
            assert read_nights(root) == rows
        except ArtifactError:
            aside.unlink()
            seen += 1
        root.nights.write_bytes(data)
    assert len(data) / 6 < seen < len(data) / 3


def test_a_number_that_was_changed_in_the_file_is_damage(root: RunsRoot) -> None:
    append_nights(root, [ONE])
    table = pq.read_table(root.nights)
    changed = table.set_column(table.schema.get_field_index("mean"), "mean", pa.array([0.99]))
    pq.write_table(changed, root.nights)
    with pytest.raises(ArtifactError, match="was damaged"):
        read_nights(root)


def test_a_history_that_cannot_be_read_is_not_set_aside(root: RunsRoot) -> None:
    root.nights.mkdir(parents=True)  # a folder in its place: reading is an error of the system, not damage
    for act in (lambda: read_nights(root), lambda: append_nights(root, [ONE])):
        with pytest.raises(ArtifactError, match=r"nights\.parquet: cannot (read|write): Is a directory; "):
            act()
    assert root.nights.is_dir()


def test_a_night_is_named_by_its_local_date() -> None:
    moment = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    assert [night_of(moment, zone) for zone in ("UTC", "Asia/Tokyo", "America/New_York")] == [
        "2026-11-20", "2026-11-21", "2026-11-20",
    ]  # fmt: skip


def cells(table: list[dict[str, str]], *names: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in names) for row in table]


def test_the_trend_shows_each_mean_and_its_change_against_the_night_before(root: RunsRoot) -> None:
    rows = [
        replace(ONE, night=f"2026-11-{day}", checkpoint=str(day) * 32, metric=metric, mean=mean)
        for day, means in ((20, (0.25, 87.5)), (21, (0.375, 87.5)), (23, (0.125, 86.0)))
        for metric, mean in zip(("alignment", "frechet"), means, strict=True)
    ]
    table = trend(rows)
    assert list(table[0]) == ["night", "run", "model", "checkpoint", "benchmark", "images", "alignment", "frechet"]
    assert cells(table, "night", "alignment", "frechet") == [
        ("2026-11-23", "0.125 (-0.250)", "86.00 (-1.50)"),
        ("2026-11-21", "0.375 (+0.125)", "87.50 (+0.00)"),
        ("2026-11-20", "0.250", "87.50"),
    ]
    assert cells(table, "run", "model", "checkpoint", "benchmark", "images")[0] == (
        "try", "SPIN 1", "232323232323", "test.single.c1", "256",
    )  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"run": "another"}, {"benchmark": "validation"}, {"protocol": "best-of-5"}, {"config": "c2"}]
)
def test_a_change_is_told_only_against_what_can_be_compared(change: dict[str, str]) -> None:
    rows = [replace(ONE, night="2026-11-19", mean=0.5, **change), ONE, replace(ONE, night="2026-11-21", mean=0.75)]
    assert cells(trend(rows), "night", "alignment") == [
        ("2026-11-21", "0.750 (+0.500)"), ("2026-11-20", "0.250"), ("2026-11-19", "0.500"),
    ]  # fmt: skip


def test_two_checkpoints_of_one_night_are_both_compared_with_the_night_before() -> None:
    early, late = "2026-11-21T01:00:00+00:00", "2026-11-21T02:00:00+00:00"
    rows = [
        replace(ONE, night="2026-11-21", checkpoint="c", evaluated_at=late, mean=0.75), ONE,
        replace(ONE, night="2026-11-21", checkpoint="b", evaluated_at=early, mean=0.5),
        replace(ONE, night="2026-11-22", checkpoint="d", mean=0.625),
    ]  # fmt: skip
    assert cells(trend(rows), "checkpoint", "alignment") == [
        ("d", "0.625 (-0.125)"), ("c", "0.750 (+0.500)"), ("b", "0.500 (+0.250)"), ("a" * 12, "0.250"),
    ]  # fmt: skip


def test_the_trend_shows_the_metrics_that_are_named_and_the_last_nights() -> None:
    rows = [
        replace(ONE, night=f"2026-11-{day}", metric=metric, mean=float(day))
        for day in range(10, 20) for metric in ("alignment", "frechet", "diversity")
    ]  # fmt: skip
    table = trend(rows, ["diversity", "alignment"], last=2)
    assert [list(row)[6:] for row in table] == [["diversity", "alignment"]] * 2
    assert cells(table, "night", "diversity") == [("2026-11-19", "19.00 (+1.00)"), ("2026-11-18", "18.00 (+1.00)")]
    assert trend([*rows, replace(ONE, night="2026-11-20")], ["diversity"], last=1) == []
    assert trend([]) == []


def test_small_numbers_keep_their_figures() -> None:
    rows = [replace(ONE, mean=0.02131), replace(ONE, night="2026-11-21", mean=0.0199)]
    assert cells(trend(rows), "alignment") == [("0.01990 (-0.00141)",), ("0.02131",)]


def test_a_history_that_cannot_be_written_is_one_clear_line(root: RunsRoot) -> None:
    root.path.write_text("a file where the runs root should be")
    with pytest.raises(ArtifactError, match="cannot write: Not a directory; free space or rights") as error:
        append_nights(root, [ONE])
    assert "\n" not in str(error.value)
