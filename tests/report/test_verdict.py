import numpy as np
import pytest

from spin.report.reading import read_run
from spin.report.scoring import score_rows
from spin.report.verdict import verdict


@pytest.fixture
def sentence(builder):
    """Builds a run, overwrites scores, and says the verdict."""

    def say(**values):
        builder.build()
        for stage, scores in values.items():
            builder.write_scores(stage.replace("_", "-"), scores)
        run = read_run(runs_root=builder.root, run=builder.name)
        return verdict(run, score_rows(run))

    return say


EVEN = np.arange(16.0) + 60
NOISE = np.tile([0.5, -0.5], 8)


def test_gains_and_ties_are_told_apart_by_intervals(sentence):
    said = sentence(
        sft={"alignment": EVEN, "aesthetic": EVEN},
        iteration_03={"alignment": EVEN + NOISE, "aesthetic": EVEN + 0.85},
    )
    assert said == "SPIN 3 beats the SFT start on aesthetic by +0.85 [0.85, 0.85]; alignment is not distinguishable."


def test_a_loss_is_said_as_plainly_as_a_gain(sentence):
    said = sentence(sft={"alignment": EVEN}, iteration_03={"alignment": EVEN - 1})
    assert said == "SPIN 3 falls behind the SFT start on alignment by \u22121.00 [\u22121.00, \u22121.00]."


def test_nothing_distinguishable_is_no_victory(sentence):
    said = sentence(sft={"alignment": EVEN, "aesthetic": EVEN}, iteration_03={"alignment": EVEN, "aesthetic": EVEN})
    assert said == "SPIN 3 is not distinguishable from the SFT start on alignment or aesthetic."


def test_without_an_sft_stage_the_base_is_the_start(builder, sentence):
    builder.stages = ("base", "iteration-01")
    said = sentence(base={"alignment": EVEN}, iteration_01={"alignment": EVEN + 1})
    assert said == "SPIN 1 beats the base model on alignment by +1.00 [1.00, 1.00]."


def test_without_judges_the_held_out_loss_speaks(builder, sentence):
    builder.scorers = ()
    builder.stages = ("base", "sft")
    assert sentence().startswith("SFT beats the base model on held-out loss by \u2212")


def test_a_base_alone_is_compared_with_nothing(builder, sentence):
    builder.stages = ("base",)
    assert "nothing to compare" in sentence()


def test_a_run_without_scores_says_so(builder):
    builder.build()
    record = builder.record()
    builder.write_record(record | {"stages": [s | {"evaluation": None} for s in record["stages"]]})
    run = read_run(runs_root=builder.root, run=builder.name)
    assert verdict(run, score_rows(run)) == "No model of this run has been scored yet."
