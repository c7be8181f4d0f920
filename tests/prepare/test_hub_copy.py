from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from spin.core.errors import DataError
from spin.core.layout import RunsRoot, SourceFolder, manifest_path
from spin.core.store import is_intact, read_manifest
from spin.prepare.copied import Copied
from spin.prepare.hub_copy import copied_from_hub, copy_parts, open_rows
from spin.prepare.pickapic import open_pickapic
from tests.hub_server import COMMIT, Hub, serving
from tests.pickapic import LEFT, RIGHT, TIE, row, write_pickapic

NAME = "yuvalkirstain/pickapic_v2"
IDENTITY: dict[str, Any] = {"dataset": NAME, "revision": COMMIT, "split": "train", "pairs": False}
ROWS = [row(i, (LEFT, RIGHT, TIE, (None, None))[i % 4]) for i in range(24)]
# Two calls of one process: the endpoint is read when huggingface_hub is imported.
PROGRAM = """
import json, sys
from pathlib import Path
from spin.core.errors import DataError
from spin.core.layout import RunsRoot
from spin.prepare.hub_copy import copy_from_hub
for _ in range(2):
    told = []
    try:
        copy_from_hub(sys.argv[2], root=RunsRoot(Path(sys.argv[1])), pairs=False, progress=lambda *p: told.append(p))
        print(json.dumps(told))
    except DataError as error:
        print(json.dumps([str(error), told]))
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three files of the train split, one of another."""
    for number in range(3):
        write_pickapic(tmp_path / f"set/data/train-0000{number}-of-00003-ab.parquet", ROWS[8 * number : 8 * number + 8])
    write_pickapic(tmp_path / "set/data/test-00000-of-00001-ab.parquet", [row(40)])
    return tmp_path / "set"


def served(dataset: Path) -> Hub:
    return Hub(NAME, {file.relative_to(dataset).as_posix(): file for file in dataset.rglob("*.parquet")})


def called(hub: Hub, folder: Path, name: str = NAME, **environment: str) -> Iterator[Any]:
    """What the calls of PROGRAM say."""
    places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder / "runs"), name],
        env={**os.environ, **places, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return map(json.loads, done.stdout.splitlines())


def copied(folder: Path) -> list[dict[str, Any]]:
    return [record for file in sorted(folder.glob("*.parquet")) for record in pq.read_table(file).to_pylist()]


def test_a_copy_holds_labels_captions_and_of_the_pictures_the_winners_alone(dataset: Path, tmp_path: Path) -> None:
    copy_parts(open_rows(str(dataset)), SourceFolder(tmp_path / "copy"), identity=IDENTITY, progress=lambda *_: None)
    found = copied(tmp_path / "copy")
    for copy, original in zip(found, ROWS, strict=True):
        winner = {LEFT: "jpg_0", RIGHT: "jpg_1"}.get((original["label_0"], original["label_1"]))
        for name in ("caption", "label_0", "label_1", "has_label"):
            assert copy[name] == original[name]
        for name in ("jpg_0", "jpg_1"):
            assert copy[name] == (original[name] if name == winner else None)


def test_a_copy_with_pairs_has_both_pictures_of_decided_rows(dataset: Path, tmp_path: Path) -> None:
    identity = {**IDENTITY, "pairs": True}
    copy_parts(open_rows(str(dataset)), SourceFolder(tmp_path / "copy"), identity=identity, progress=lambda *_: None)
    decided = [original["label_0"] in (0, 1) for original in ROWS]
    assert [copy["jpg_0"] is not None and copy["jpg_1"] is not None for copy in copied(tmp_path / "copy")] == decided


@pytest.mark.parametrize("pairs", [False, True])
def test_a_copy_is_read_as_the_data_set_itself_is(dataset: Path, tmp_path: Path, pairs: bool) -> None:
    identity = {**IDENTITY, "pairs": pairs}
    copy_parts(open_rows(str(dataset)), SourceFolder(tmp_path / "copy"), identity=identity, progress=lambda *_: None)
    one, two = (list(open_pickapic(path, pairs=pairs)()) for path in (dataset, tmp_path / "copy"))
    assert [(c.caption, c.dropped) for c in one] == [(c.caption, c.dropped) for c in two]
    good = [(a, b) for a, b in zip(one, two, strict=True) if a.dropped is None]
    assert len(good) == 12
    assert all(a.read() == b.read() for a, b in good)
    assert all(a.read_loser() == b.read_loser() for a, b in good if a.read_loser and b.read_loser)


def test_parts_that_stand_are_kept_and_damaged_ones_made_again(dataset: Path, tmp_path: Path) -> None:
    folder, rows = SourceFolder(tmp_path / "copy"), open_rows(str(dataset))
    copy_parts(rows, folder, identity=IDENTITY, progress=lambda *_: None)
    before = [folder.part(number).stat().st_mtime_ns for number in range(3)]
    content = folder.part(1).read_bytes()
    folder.part(1).write_bytes(content[:-3])
    copy_parts(rows, folder, identity=IDENTITY, progress=lambda *_: None)
    after = [folder.part(number).stat().st_mtime_ns for number in range(3)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    assert folder.part(1).read_bytes() == content


def test_what_stands_of_a_copy_is_told_without_the_network(dataset: Path, tmp_path: Path) -> None:
    def stands(name: str = NAME, *, pairs: bool = False) -> Copied | None:
        return copied_from_hub(name, root=RunsRoot(tmp_path), pairs=pairs)

    assert stands() is None
    folder = RunsRoot(tmp_path).source("pickapic", "0123456789abcdef")
    copy_parts(open_rows(str(dataset)), folder, identity=IDENTITY, progress=lambda *_: None)
    sizes = [folder.part(number).stat().st_size for number in range(3)]
    assert stands() == stands(f"{NAME}@main") == stands(f"{NAME}@{COMMIT}") == Copied(sum(sizes), sum(sizes))
    assert stands(pairs=True) is stands("other/name") is stands(f"{NAME}@{'0' * 40}") is None
    manifest_path(folder.part(2)).unlink()
    found = stands()
    assert found == Copied(sizes[0] + sizes[1], round((sizes[0] + sizes[1]) * 3 / 2))
    assert found.missing_bytes == pytest.approx(sizes[2], rel=0.2)


def test_another_kind_of_data_set_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"image": pa.array([b"x"]), "caption": ["a"]}), tmp_path / "set" / "train.parquet")
    with pytest.raises(DataError, match=r"no column 'jpg_0', so not Pick-a-Pic; columns are image, caption"):
        open_rows(str(tmp_path / "set"))


@pytest.mark.slow
def test_a_copy_from_the_hub_survives_a_lost_connection_and_goes_on_after_a_refusal(
    dataset: Path, tmp_path: Path
) -> None:
    hub = served(dataset)
    hub.cut["data/train-00000-of-00003-ab.parquet"] = 1
    hub.refused["data/train-00002-of-00003-ab.parquet"] = 1
    with serving(hub):
        (refusal, told), again = called(hub, tmp_path)
    assert f"{NAME}, file 3 of 3: cannot be read from the hub: 403" in refusal
    assert refusal.endswith("; run again: the files before it are kept")
    assert [done for done, *_ in told] == [1, 2]
    assert [done for done, *_ in again] == [1, 2, 3]
    (copy,) = (tmp_path / "runs" / "cache" / "source").iterdir()
    assert [record["caption"] for record in copied(copy)] == [original["caption"] for original in ROWS]
    parts = [SourceFolder(copy).part(number) for number in range(3)]
    assert all(map(is_intact, parts))
    manifest = read_manifest(parts[0])
    assert manifest is not None
    assert manifest.identity == {**IDENTITY, "part": 0, "parts": 3}
    with serving(hub):
        hub.asked.clear()
        assert list(called(hub, tmp_path, f"{NAME}@main")) == [[], []]
    assert not [line for line in hub.asked if "resolve" in line]  # what stands is not asked for again
    assert list(called(hub, tmp_path, HF_HUB_OFFLINE="1")) == [[], []]  # nor is the hub where it cannot be
    assert list(called(hub, tmp_path, f"{NAME}@{COMMIT}", HF_HUB_OFFLINE="1")) == [[], []]


def test_a_hub_that_is_not_there_is_told_in_one_line(dataset: Path, tmp_path: Path) -> None:
    line, _ = called(served(dataset), tmp_path, HF_HUB_OFFLINE="1", HF_ENDPOINT="")
    assert line[0].startswith(f"data.path: {NAME}: cannot be opened on the hub: ")
    fix = "see that the hub can be reached and has it, or name another copy, there or a folder of its files"
    assert line[0].endswith(f"; {fix}")
    assert "\n" not in line[0]
