"""What the numbers say of the sentences that were written down before."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from spin.core.recipe import Claim
from spin.report.results.claims import judge
from spin.report.results.study import Study
from tests.report.results.written import SCORES, write


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(write(tmp_path_factory.mktemp("mine")))


def verdict(study: Study, model: str, over: str, on: str, wants: str = "above", margin: float | None = None) -> str:
    claim = {"says": "So.", "model": model, "over": over, "on": on, "wants": wants, "margin": margin}
    return judge(study, Claim.model_validate(claim)).verdict


def test_an_interval_above_zero_holds(study: Study) -> None:
    assert verdict(study, "spin", "sft", "aesthetic") == "holds"


def test_an_interval_below_zero_does_not_hold(study: Study) -> None:
    assert verdict(study, "sft", "spin", "aesthetic") == "does not hold"


def test_an_interval_around_zero_cannot_be_told(study: Study) -> None:
    assert verdict(study, "spin", "sft", "alignment") == "cannot be told"


def test_not_below_asks_for_evidence_within_a_margin(study: Study) -> None:
    # alignment: 0 over both seeds, +0.25 and -0.25 by themselves, the prompts between -0.25 and +0.25
    assert verdict(study, "spin", "sft", "alignment", "not below", 0.5) == "holds"
    assert verdict(study, "spin", "sft", "alignment", "not below", 0.1) == "cannot be told"
    assert verdict(study, "sft", "spin", "aesthetic", "not below", 5.0) == "does not hold"  # 15 below


def test_a_seed_that_says_otherwise_leaves_it_open(tmp_path: Path) -> None:
    scores = copy.deepcopy(SCORES)
    scores["spin/iteration-02"]["aesthetic"] = {0: [60, 70, 80, 90], 1: [19, 29, 39, 49]}  # +40 and -1
    assert verdict(Study(write(tmp_path, scores)), "spin", "sft", "aesthetic") == "cannot be told"


def test_the_same_is_the_same_for_every_prompt_and_seed(study: Study) -> None:
    assert verdict(study, "sft", "sft", "aesthetic", "same") == "holds"
    assert verdict(study, "spin", "sft", "alignment", "same") == "does not hold"  # though the means are equal


def test_within_asks_for_evidence_on_both_sides(study: Study) -> None:
    assert verdict(study, "spin", "sft", "alignment", "within", 0.5) == "holds"
    assert verdict(study, "spin", "sft", "alignment", "within", 0.1) == "cannot be told"
    assert verdict(study, "sft", "spin", "aesthetic", "within", 5.0) == "does not hold"  # 15 below
    assert verdict(study, "spin", "sft", "aesthetic", "within", 5.0) == "does not hold"  # 15 above
    assert verdict(study, "spin", "sft", "aesthetic", "not below", 5.0) == "holds"


def test_a_margin_belongs_to_not_below_and_within_alone() -> None:
    for wants, margin in (("not below", None), ("within", None), ("above", 0.1)):
        with pytest.raises(ValueError, match="need a margin"):
            Claim.model_validate({"says": "So.", "model": "a", "over": "b", "wants": wants, "margin": margin})


def test_of_a_loss_lower_is_better(tmp_path: Path) -> None:
    scores = {"base": {"denoising": {0: [2, 2, 2, 2]}}, "sft/sft": {"denoising": {0: [1, 1, 1, 1]}}}
    lower = Study(write(tmp_path, scores))
    assert verdict(lower, "sft", "base", "denoising") == "holds"
    assert verdict(lower, "base", "sft", "denoising") == "does not hold"


def test_what_was_not_measured_says_so(study: Study) -> None:
    judged = judge(study, study.facts.recipe.claims[3])
    assert judged.verdict == "not measured"
    assert judged.sentence(study) == "**Not measured**: Another arm is above SFT."


def test_the_margin_of_a_share_is_told_in_its_unit(study: Study) -> None:
    claim = {"says": "So.", "model": "spin", "over": "sft", "on": "attributes", "wants": "not below", "margin": 0.02}
    assert judge(study, Claim.model_validate(claim)).sentence(study).endswith("; margin 2.0 pp.")


def test_a_sentence_tells_difference_interval_and_seeds(study: Study) -> None:
    claim = Claim(says="SPIN is above SFT.", model="spin", over="sft", on="aesthetic")
    told = judge(study, claim).sentence(study)
    assert told == "**Holds**: SPIN is above SFT. Aesthetic: +15.00 [15.00, 15.00]; seed by seed +20.00, +10.00."
