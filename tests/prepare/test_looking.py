"""Real pictures that a safety checker marks."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tests.checkers
from spin.core.safety import DIFFUSERS, Judge, Pixels, Safety
from spin.core.schema import UNSAFE, read_table
from spin.core.store import read_manifest
from spin.diffusion.safety import Checker, load_checker
from spin.prepare import looking, room
from spin.prepare.candidates import DUPLICATE, NO_LOSER
from spin.prepare.looking import UNSAFE_PICTURE, Look
from spin.prepare.own_data import read_own_data
from spin.prepare.room import run
from spin.prepare.rows import TargetData
from tests.checkers import safety, save_concept_checker
from tests.prepare.conftest import MakeRequest

CLOSE = 0.5


@dataclass(frozen=True)
class Counted:
    """A checker's judge that keeps how many pictures each pass had."""

    judge: Judge
    passes: list[int] = field(default_factory=list)

    def __call__(self, pictures: Pixels) -> Sequence[bool]:
        self.passes.append(len(pictures))
        return self.judge(pictures)


@pytest.fixture(scope="module")
def concepts(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """diffusers' checker, tiny, of a threshold that some pictures are above."""
    folder = tmp_path_factory.mktemp("checker")
    save_concept_checker(folder, threshold=CLOSE)
    return load_checker(Safety(DIFFUSERS, folder, "tiny", drop=False), device="cpu").judge


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """60 pairs of three sizes; each tenth repeats the one before, its loser broken or not, as others' are."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(60):
        if number % 10 == 9:
            rows.append(rows[-1] | ({"worse": b"no picture"} if number % 20 == 9 else {}))
            continue
        side = (24, 40, 48)[number % 5 % 3]
        winner, loser = (rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in range(2))
        worse = b"no picture" if number % 7 == 0 else png(loser, side)
        rows.append({"image": png(winner, side), "text": f"picture {number}", "worse": worse})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def png(pixels: Pixels, side: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


def judged(path: Path, look: Look) -> TargetData:
    return read_own_data(
        path, source="parquet", image_column="image", caption_column="text", loser_column="worse", train_rows=None,
        held_out_share=0.2, max_image_pixels=10_000, look=look,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """12 dark pictures, then 8 bright ones."""
    place = tmp_path / "pictures"
    place.mkdir()
    lines = []
    for number in range(20):
        shade = 10 + number if number < 12 else 180 + number
        Image.new("RGB", (40, 40), (shade, shade, shade)).save(place / f"{number:02}.png")
        lines.append(json.dumps({"file_name": f"{number:02}.png", "text": f"picture {number}"}))
    (place / "metadata.jsonl").write_text("\n".join(lines))
    return place


def test_marked_pictures_stay_and_say_so(make_request: MakeRequest, folder: Path) -> None:
    result = run(make_request(source="imagefolder", path=folder, safety=safety("bright")))
    table = read_table(result.prompts)
    marks = dict(zip(table["caption"].to_pylist(), table[UNSAFE].to_pylist(), strict=True))
    assert marks == {f"picture {number}": number >= 12 for number in range(20)}
    assert result.unsafe == {"pictures": 20, "flagged": 8}
    assert result.dropped == {}


def test_dropped_pictures_are_no_rows_and_no_bad_rows(make_request: MakeRequest, folder: Path) -> None:
    request = make_request(source="imagefolder", path=folder, safety=safety("bright", drop=True), max_bad_share=0.0)
    result = run(request)
    table = read_table(result.prompts)
    assert sorted(table["caption"].to_pylist()) == sorted(f"picture {number}" for number in range(12))
    assert result.unsafe == {"pictures": 20, "flagged": 8}
    assert result.dropped == {UNSAFE_PICTURE: 8}
    assert result.quarantined == {}
    manifest = read_manifest(result.prompts)
    assert manifest is not None
    assert manifest.environment["counts"]["met"] == 20  # type: ignore[index]


def test_where_nobody_looks_nothing_is_said(make_request: MakeRequest, folder: Path) -> None:
    result = run(make_request(source="imagefolder", path=folder))
    assert UNSAFE not in read_table(result.prompts).column_names
    assert result.unsafe == {}


@pytest.mark.system
def test_the_miniature_can_be_looked_at_too(make_request: MakeRequest) -> None:
    flagged = run(make_request(source="miniature", rows=40, safety=safety("bright")))
    dropped = run(make_request(source="miniature", rows=40, run="other", safety=safety("bright", drop=True)))
    assert flagged.unsafe == dropped.unsafe
    assert 0 < flagged.unsafe["flagged"] < flagged.unsafe["pictures"]
    assert sum(flagged.rows.values()) - sum(dropped.rows.values()) == flagged.unsafe["flagged"]
    kept = set(read_table(dropped.prompts)["sample_id"].to_pylist())
    table = read_table(flagged.prompts)
    safe = {name for name, mark in zip(*(table[c].to_pylist() for c in ("sample_id", UNSAFE)), strict=True) if not mark}
    assert kept == safe


@pytest.mark.parametrize("drop", [False, True])
def test_rows_judged_together_are_judged_as_each_by_itself(
    concepts: Judge, mixed: Path, monkeypatch: pytest.MonkeyPatch, drop: bool
) -> None:
    together, alone = Counted(concepts), Counted(concepts)
    found = judged(mixed, Look(Checker("together", together), drop))
    monkeypatch.setattr(looking, "_PICTURES", 1)
    wanted = judged(mixed, Look(Checker("alone", alone), drop))
    assert list(found.rows) == list(wanted.rows)
    assert list(found.rejections) == list(wanted.rejections)
    assert found.dropped == wanted.dropped
    assert {rejection.reason for rejection in found.rejections} == {DUPLICATE, NO_LOSER}
    assert {row.unsafe for row in found.rows} == {False, not drop}
    assert (found.dropped.get(UNSAFE_PICTURE, 0) > 0) is drop
    assert sum(together.passes) == sum(alone.passes)
    assert len(together.passes) < len(alone.passes) / 2


def test_pictures_of_one_size_are_looked_at_together_and_large_ones_wait_for_nobody(
    make_request: MakeRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bright = Counted(tests.checkers.bright)
    look = Look(Checker("bright", bright), drop=False)
    monkeypatch.setattr(room, "look_of", lambda *_, **__: look)
    assert run(make_request(path=folder, safety=safety("bright"))).unsafe == {"pictures": 20, "flagged": 8}
    assert bright.passes == [16, 4]
    monkeypatch.setattr(looking, "_PIXELS", 40 * 40)
    run(make_request(path=folder, safety=safety("bright"), run="other"))
    assert bright.passes == [16, 4, *[1] * 20]
