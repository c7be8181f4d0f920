"""Distances of latents and paired scores of three drawings, worked by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from spin.core.errors import ArtifactError, DataError
from spin.core.layout import EvaluationFolder
from spin.core.layout_beside import QualityFolder
from spin.core.schema import SCORES, content_digest, read_table, tensor_column, tensor_field, write_rows, write_table
from spin.core.store import commit
from spin.report.quality import distance, measure_quality, ratio_of_means, write_quality

Latents = Mapping[str, list[float]]


def evaluation(folder: Path, latents: Latents, scores: Mapping[str, float]) -> EvaluationFolder:
    """An evaluation of two shards: latents of two numbers, one judge."""
    found = EvaluationFolder(folder)
    names = list(latents)
    for shard, prompts in enumerate((names[:1], names[1:])):
        values = np.array([latents[prompt] for prompt in prompts], np.float32)
        schema = pa.schema(
            [pa.field("prompt_id", pa.string()), pa.field("draw", pa.int32()), tensor_field("latent", (2,), "float32")]
        )
        table = pa.table([prompts, pa.array([0] * len(prompts), pa.int32()), tensor_column(values)], schema=schema)
        rows = [
            {"prompt_id": prompt, "draw": 0, "scorer": "alignment", "score": scores[prompt]}
            for prompt in prompts if prompt in scores
        ]  # fmt: skip
        for path, write in (
            (found.latents(shard), lambda target, table=table: write_table(target, table)),
            (found.scores(shard), lambda target, rows=rows: write_rows(target, SCORES, rows)),
        ):
            commit(path, write, kind="evaluation", digest=content_digest)
    return found


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, EvaluationFolder]:
    return {
        "reference": evaluation(tmp_path / "r", {"a": [0, 0], "b": [1, 1]}, {"a": 3.0, "b": 5.0}),
        "default": evaluation(tmp_path / "d", {"a": [1, 1], "b": [1, 1]}, {"a": 2.0, "b": 4.0}),
        "approximated": evaluation(tmp_path / "x", {"a": [3, 4], "b": [2, 2]}, {"a": 1.0, "b": 4.0}),
    }


def test_distances_are_root_mean_squares_over_the_latents(folders: dict[str, EvaluationFolder]) -> None:
    found, columns = measure_quality(folders)
    far = math.sqrt(25 / 2)
    assert columns == {"prompt_id": ["a", "b"], "default": [1.0, 0.0], "approximated": [pytest.approx(far), 1.0]}
    assert found.prompts == 2
    assert found.default.value == 0.5
    assert found.approximated.value == pytest.approx((far + 1) / 2)
    assert found.ratio.value == pytest.approx((far + 1) / 1)
    assert found.between.value == pytest.approx((math.sqrt((4 + 9) / 2) + 1) / 2)
    assert (found.default.low, found.default.high) == (0.0, 1.0)


def test_judges_are_compared_prompt_by_prompt(folders: dict[str, EvaluationFolder]) -> None:
    (judge,) = measure_quality(folders)[0].judges
    assert judge.judge == "alignment"
    assert judge.means == {"default": 3.0, "approximated": 2.5, "reference": 4.0}
    assert (judge.difference.value, judge.difference.low, judge.difference.high) == (-0.5, -1.0, 0.0)


def test_what_one_drawing_lacks_is_left_out_of_all(folders: dict[str, EvaluationFolder], tmp_path: Path) -> None:
    folders["approximated"] = evaluation(tmp_path / "y", {"a": [math.nan, 0], "b": [2, 2]}, {"a": 1.0})
    found, columns = measure_quality(folders)
    assert columns["prompt_id"] == ["b"]
    assert found.judges[0].means == {"default": 2.0, "approximated": 1.0, "reference": 3.0}
    folders["default"] = evaluation(tmp_path / "z", {"a": [0, 0], "b": [math.inf, 2]}, {})
    with pytest.raises(DataError, match="no prompt has finite latents in all three"):
        measure_quality(folders)


def test_equal_drawings_are_at_no_distance(folders: dict[str, EvaluationFolder]) -> None:
    found, _ = measure_quality({**folders, "approximated": folders["default"]})
    assert found.between == type(found.between)(0.0, 0.0, 0.0)
    assert found.ratio.value == 1.0
    assert found.judges[0].difference == type(found.between)(0.0, 0.0, 0.0)


def test_a_ratio_resamples_both_together() -> None:
    # twice as far on every prompt: whatever is drawn, the ratio is 2
    found = ratio_of_means(np.array([2.0, 4.0, 12.0]), np.array([1.0, 2.0, 6.0]))
    assert [found.value, found.low, found.high] == pytest.approx([2.0, 2.0, 2.0])


def test_a_distance_worked_by_hand() -> None:
    assert distance(np.zeros((1, 2)), np.array([[3.0, 4.0]])) == pytest.approx(3.5355, abs=1e-4)


def test_the_numbers_are_kept_and_the_same_ones_again_change_nothing(
    folders: dict[str, EvaluationFolder], tmp_path: Path
) -> None:
    found, columns = measure_quality(folders)
    target, facts = QualityFolder(tmp_path / "kept"), {"quality": asdict(found), "drawn": {"default": "d"}}
    write_quality(target, facts, columns)
    times = [path.stat().st_mtime_ns for path in (target.distances, target.table)]
    write_quality(target, facts, columns)
    assert [path.stat().st_mtime_ns for path in (target.distances, target.table)] == times
    assert read_table(target.distances).to_pydict() == columns
    assert json.loads(target.table.read_text("utf-8"))["quality"]["default"]["value"] == 0.5


def test_damaged_latents_are_not_read(folders: dict[str, EvaluationFolder]) -> None:
    path = folders["default"].latents(1)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="bytes differ"):
        measure_quality(folders)
