"""What stands before the first run of a comparison: rates, and prompts that may not choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.comparison import COUNTED, data_config, rates_of
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout_beside import ComparisonFolder
from spin.core.recipe import Rates
from spin.core.recipe_file import Source, load_recipe
from spin.miniature.packaged import packaged_pipeline_path
from tests.flows.test_compare import RECIPE, compare


def recipe(folder: Path, text: str) -> Source:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return load_recipe(str(path))


def rates(source: Source, folder: Path) -> tuple[Rates, str]:
    return rates_of(source, ComparisonFolder(folder), data_config(source, "runs"), packaged_pipeline_path())


def test_a_recipe_that_names_its_rates_measures_none(tmp_path: Path) -> None:
    found, origin = rates(recipe(tmp_path, RECIPE), tmp_path / "versus")
    assert (found.pair, found.sampled_image, origin) == (2, 6, "the recipe")


@pytest.mark.system
def test_all_calls_share_the_rates_of_the_first(tmp_path: Path) -> None:
    source, folder = recipe(tmp_path, RECIPE.replace("rates: {pair: 2, sampled_image: 6}\n", "")), tmp_path / "versus"
    found, origin = rates(source, folder)
    assert origin == "a probe"
    assert rates(source, folder)[0] == found
    ComparisonFolder(folder).rates.write_text("")
    with pytest.raises(ArtifactError, match=r"rates.json: is damaged; delete it"):
        rates(source, folder)


def test_where_no_budget_asks_for_time_passes_are_counted(tmp_path: Path) -> None:
    text = RECIPE.replace("rates: {pair: 2, sampled_image: 6}\n", "").replace("{by: time}", "{by: images}")
    assert rates(recipe(tmp_path, text), tmp_path / "versus")[0] == COUNTED


@pytest.mark.system
def test_prompts_that_are_reported_do_not_choose_under_another_name(tmp_path: Path) -> None:
    for name in ("reported", "chooses"):
        (tmp_path / f"{name}.txt").write_text("a kite\na boat\n")
    asked = f"{{benchmarks: [{tmp_path}/reported.txt, {tmp_path}/chooses.txt], num_inference_steps: 2, prompts"
    text = RECIPE.replace("{num_inference_steps: 2, prompts", asked)
    text = text.replace("measure: sft", f"choose: {tmp_path}/chooses.txt\nmeasure: sft")
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"choose: 2 of its prompts are reported by .*; choose by others"):
        compare(tmp_path / "recipe.yaml", tmp_path / "runs").result()
