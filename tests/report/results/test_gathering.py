"""Which model the prompts beside the reported ones choose, and what is read of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.recipe import Recipe
from spin.report.reading import Evaluation, Run, Score, Stage
from spin.report.results.gathering import choose
from tests.report.results.written import RECIPE

LEVELS = {"base": 0.0, "sft": 1.0, "iteration-01": 3.0, "iteration-02": 2.0}


def evaluation(name: str, level: float) -> Evaluation:
    scores = tuple(Score(prompt, 0, 0, level + number) for number, prompt in enumerate("abcd"))
    judged = dict.fromkeys(("alignment", "aesthetic"), scores)
    return Evaluation(EvaluationFolder(Path(f"{name}.single.0123")), judged, dict.fromkeys("abcd", "a kite"))


def run(chosen_by: str) -> Run:
    stages = tuple(
        Stage(name, name, name, None, Evaluation(), None, {f"{chosen_by}.single": evaluation(chosen_by, level)})
        for name, level in LEVELS.items()
    )
    return Run(RunsRoot(Path("runs")).run("run"), "run", {}, stages, Evaluation(), None, ())


def recipe(choose: str | None) -> Recipe:
    return Recipe.model_validate({**RECIPE, "choose": choose})


@pytest.mark.parametrize(
    ("configured", "name"), [("validation", "validation"), ("/p/mine.txt", "mine"), ("hpsv2=/copies/hps", "hpsv2")]
)
def test_the_model_with_the_highest_average_on_the_choosing_prompts_is_chosen(configured: str, name: str) -> None:
    assert choose(run(name), recipe(configured)) == "iteration-01"


def test_prompts_that_nobody_was_asked_choose_nothing() -> None:
    assert choose(run("validation"), recipe("/p/mine.txt")) is None
    assert choose(run("validation"), recipe(None)) is None
