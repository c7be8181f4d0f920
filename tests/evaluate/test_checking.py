"""Pictures that stand, drawn and scored again: hashes tell that bytes are old, only drawing that they were right."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from spin.core.layout import EvaluationFolder
from spin.core.schema import content_digest, read_table, write_table
from spin.core.store import commit, discard, read_manifest
from spin.evaluate.asked import read_prompts
from spin.evaluate.checking import pictures_to_check
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.room import run
from spin.evaluate.shards import evaluation_folder
from tests.evaluate.conftest import Ask
from tests.world import fingerprint


@pytest.fixture
def copy(evaluated: tuple[EvaluateRequest, EvaluateResult], tmp_path: Path) -> EvaluateRequest:
    """An evaluation of six pictures, free to change, that is asked to check four of them and to make nothing."""
    shutil.copytree(evaluated[0].runs_root, tmp_path / "copy")
    return replace(evaluated[0], runs_root=tmp_path / "copy", shards=(), finish=False, check_pictures=4)


def rewrite(artifact: Path, table: pa.Table) -> None:
    """Another table under a manifest that fits it."""
    manifest = read_manifest(artifact)
    assert manifest is not None
    discard(artifact)
    commit(
        artifact, lambda path: write_table(path, table), kind=manifest.kind, digest=content_digest,
        identity=manifest.identity, environment=lambda: manifest.environment,
    )  # fmt: skip


def changed(artifact: Path, column: str, values: list[object]) -> None:
    table = read_table(artifact)
    index = table.schema.get_field_index(column)
    rewrite(artifact, table.set_column(index, table.schema.field(column), pa.array(values, table[column].type)))


def test_what_stands_comes_again_bit_for_bit_and_nothing_is_written(copy: EvaluateRequest) -> None:
    before = fingerprint(copy.runs_root)
    result = run(copy)
    assert (result.checked, result.differing, result.images_made, result.images_scored) == (4, 0, 0, 0)
    assert (result.largest_pixel_difference, result.largest_score_difference) == (0.0, 0.0)
    assert fingerprint(copy.runs_root) == before


def test_a_picture_of_other_noise_is_found(copy: EvaluateRequest) -> None:
    images = evaluation_folder(copy).images(0)
    found = read_table(images)["image"].to_pylist()
    changed(images, "image", [*found[1:], found[0]])
    result = run(copy)
    assert result.differing == 4
    assert 0 < result.largest_pixel_difference <= 1
    assert result.largest_score_difference == 0  # the scores are those of the pictures that are drawn


def test_a_score_that_its_judge_does_not_give_is_found(copy: EvaluateRequest) -> None:
    scores = evaluation_folder(copy).scores(0)
    table = read_table(scores)
    values = [
        v + 0.5 if s == "aesthetic" else v
        for v, s in zip(*(table[n].to_pylist() for n in ("score", "scorer")), strict=True)
    ]  # noqa: E501
    changed(scores, "score", values)
    result = run(copy)
    assert (result.checked, result.differing, result.largest_pixel_difference) == (4, 4, 0.0)
    assert result.largest_score_difference == pytest.approx(0.5)


def test_real_pictures_are_checked_too(ask_data: Ask) -> None:
    asked = ask_data()
    folder: EvaluationFolder = EvaluationFolder(run(asked).folder)
    assert run(replace(asked, shards=(), finish=False, check_pictures=2)).differing == 0
    found = read_table(folder.images(0))["image"].to_pylist()
    changed(folder.images(0), "image", [*found[1:], found[0]])
    assert run(replace(asked, shards=(), finish=False, check_pictures=2)).differing == 2


def test_pictures_are_picked_by_what_they_are(ask: Ask) -> None:
    prompts = read_prompts(ask(protocol="best_of_n"))
    chosen = pictures_to_check(prompts, 5)
    assert len(chosen) == 5
    assert pictures_to_check(prompts[::-1], 5)[::-1] != chosen or len({p.asked for p in chosen}) > 1
    assert {(p.asked.prompt_id, p.draw) for p in chosen} == {
        (p.asked.prompt_id, p.draw) for p in pictures_to_check(prompts[::-1], 5)
    }
    assert pictures_to_check(prompts, 0) == []
    assert len(pictures_to_check(prompts, 99)) == 18  # six prompts of three pictures
