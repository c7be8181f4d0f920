"""How much data there is: prepared, stated, or not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.forecast_rows import evaluated_pictures, rows_of
from flows.requests import Requests
from spin.core.config import Config, load_config
from spin.core.outline import Rows
from tests.flows.conftest import Played


def own(root: Path, *overrides: str) -> Config:
    table = ["data.source=parquet", "data.path=/nowhere", f"run.root={root}"]
    return load_config("sd15-paper", overrides=[*table, *overrides])


def test_prepared_data_is_counted(played: Played) -> None:
    found = rows_of(Requests(played.config, "cpu"))
    assert (found.train, found.all, found.told) == (24, 24 + 384, "prepared")
    assert found.prompts == found.all  # the miniature has one picture a caption


def test_the_embedded_world_is_known(tmp_path: Path) -> None:
    config = load_config("miniature", overrides=[f"run.root={tmp_path}"])
    assert rows_of(Requests(config, "cpu")) == Rows(384, 768, 768, "the embedded world")
    few = load_config("miniature", overrides=[f"run.root={tmp_path}", "data.rows=10"])
    assert rows_of(Requests(few, "cpu")).train == 10


def test_a_table_that_is_not_there_is_not_known(tmp_path: Path) -> None:
    found = rows_of(Requests(own(tmp_path), "cpu"))
    assert (found.train, found.all, found.prompts) == (None, None, None)
    assert "not prepared yet" in found.told


def test_a_table_has_as_many_rows_as_the_config_says(tmp_path: Path) -> None:
    found = rows_of(Requests(own(tmp_path, "data.rows=99000"), "cpu"))
    assert (found.train, found.all, found.prompts) == (99_000, 100_000, None)  # a hundredth is held out


@pytest.mark.parametrize(
    ("overrides", "pictures"),
    [
        ((), 2500),  # 500 prompts, five of each
        (("evaluation.prompts=10",), 50),
        (("evaluation.benchmarks=[pickapic_test, partiprompts]",), 5 * (500 + 1632)),
        (("evaluation.protocol=single", "evaluation.diversity_prompts=0"), 500),
        (("evaluation.protocol=single", "evaluation.diversity_prompts=16"), 500 + 16 * 3),
        (("evaluation.benchmarks=[test]",), 5 * 50),
        (("evaluation.benchmarks=[prompts.txt]",), 5 * 256),
    ],
)
def test_pictures_of_an_evaluation(overrides: tuple[str, ...], pictures: int, tmp_path: Path) -> None:
    assert evaluated_pictures(own(tmp_path, *overrides), Rows(900, 1000, None, "")) == pictures


def test_the_miniatures_splits_are_known(tmp_path: Path) -> None:
    config = load_config("miniature", overrides=["evaluation.benchmarks=[test, validation]"])
    rows = rows_of(Requests(config, "cpu"))
    assert evaluated_pictures(config, rows) == 256 + 128 + 2 * 16 * 3


def test_pick_a_pic_is_as_large_as_its_authors_state(tmp_path: Path) -> None:
    config = own(tmp_path)
    data = config.data.model_copy(update={"source": "pickapic"})
    found = rows_of(Requests(config.model_copy(update={"data": data}), "cpu"))
    assert (found.all, found.train, found.prompts) == (851_293, 851_293 - 8513, 58_960)
    assert "2311.12908" in found.told
    few = data.model_copy(update={"rows": 1000})
    some = rows_of(Requests(config.model_copy(update={"data": few}), "cpu"))
    assert (some.train, some.source) == (1000, 851_293)  # a checker looks at all of them
