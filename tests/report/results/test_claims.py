"""What the numbers say of the sentences that were written down before."""

from __future__ import annotations

from pathlib import Path

import pytest

from spin.core.recipe import Claim
from spin.report.results.claims import judge
from spin.report.results.study import Study
from tests.report.results.written import write


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(write(tmp_path_factory.mktemp("mine")))


def verdict(study: Study, model: str, over: str, on: str, wants: str = "above") -> str:
    return judge(
        study, Claim.model_validate({"says": "So.", "model": model, "over": over, "on": on, "wants": wants})
    ).verdict


def test_an_interval_above_zero_holds(study: Study) -> None:
    assert verdict(study, "spin", "sft", "aesthetic") == "holds"


def test_an_interval_below_zero_does_not_hold(study: Study) -> None:
    assert verdict(study, "sft", "spin", "aesthetic") == "does not hold"
    assert verdict(study, "sft", "spin", "aesthetic", "not below") == "does not hold"


def test_an_interval_around_zero_cannot_be_told_but_is_not_below(study: Study) -> None:
    assert verdict(study, "spin", "sft", "alignment") == "cannot be told"
    assert verdict(study, "spin", "sft", "alignment", "not below") == "holds"


def test_of_a_loss_lower_is_better(tmp_path: Path) -> None:
    scores = {"base": {"denoising": {0: [2, 2, 2, 2]}}, "sft/sft": {"denoising": {0: [1, 1, 1, 1]}}}
    lower = Study(write(tmp_path, scores))
    assert verdict(lower, "sft", "base", "denoising") == "holds"
    assert verdict(lower, "base", "sft", "denoising") == "does not hold"


def test_what_was_not_measured_says_so(study: Study) -> None:
    judged = judge(study, study.facts.recipe.claims[3])
    assert judged.verdict == "not measured"
    assert judged.sentence(study) == "**Not measured**: Another arm is above SFT."


def test_a_sentence_tells_difference_interval_and_seeds(study: Study) -> None:
    claim = Claim(says="SPIN is above SFT.", model="spin", over="sft", on="aesthetic")
    told = judge(study, claim).sentence(study)
    assert told == "**Holds**: SPIN is above SFT. Aesthetic: +15.00 [15.00, 15.00]; 2 of 2 seeds have this sign."
