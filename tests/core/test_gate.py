"""The gate's rules as tables: intervals in, decision out."""

from __future__ import annotations

import pytest

from spin.core.errors import ConfigError
from spin.core.gate import Decision, Evidence, best, judge, opposite
from spin.core.statistics import Estimate

GAIN = Estimate(0.3, 0.1, 0.5)
UNSURE = Estimate(0.1, -0.1, 0.3)
TOUCHING_0_FROM_ABOVE = Estimate(0.1, 0.0, 0.3)
TOUCHING_0_FROM_BELOW = Estimate(-0.1, -0.3, 0.0)
HARM = Estimate(-0.3, -0.5, -0.1)

FALLS = Estimate(-0.02, -0.03, -0.01)
SEEMS_TO_FALL = Estimate(-0.01, -0.03, 0.01)
LEVEL = Estimate(0.0, 0.0, 0.0)
SEEMS_TO_RISE = Estimate(0.01, -0.01, 0.03)
RISES = Estimate(0.02, 0.01, 0.03)


def evidence(
    gains: dict[str, Estimate] | None = None, held_out: Estimate | None = FALLS, *, stage: str = "b", before: str = "a"
) -> Evidence:
    return Evidence(
        stage, stage.upper(), before, before.upper(), {"alignment": GAIN} if gains is None else gains, held_out
    )


RULES: list[tuple[str, dict[str, Estimate], Estimate | None, str, Decision]] = [
    ("all rules hold", {"alignment": GAIN}, FALLS, "auto", "go-on"),
    ("one judge of two gains, the other is unsure", {"alignment": UNSURE, "aesthetic": GAIN}, FALLS, "auto", "go-on"),
    ("no judge gains for certain", {"alignment": UNSURE, "aesthetic": UNSURE}, FALLS, "auto", "stop"),
    ("a lower bound of exactly 0 is no gain", {"alignment": TOUCHING_0_FROM_ABOVE}, FALLS, "auto", "stop"),
    ("an upper bound of exactly 0 is no harm", {"a": GAIN, "b": TOUCHING_0_FROM_BELOW}, FALLS, "auto", "go-on"),
    ("harm outweighs any gain", {"alignment": GAIN, "aesthetic": HARM}, FALLS, "auto", "go-back"),
    ("harm alone", {"alignment": HARM}, FALLS, "auto", "go-back"),
    ("harm goes before a rising loss", {"alignment": HARM}, RISES, "auto", "go-back"),
    ("the named judge gains", {"alignment": GAIN, "aesthetic": UNSURE}, FALLS, "alignment", "go-on"),
    ("another than the named judge gains", {"alignment": GAIN, "aesthetic": UNSURE}, FALLS, "aesthetic", "stop"),
    ("another than the named judge is harmed", {"alignment": GAIN, "aesthetic": HARM}, FALLS, "alignment", "go-back"),
    ("the loss seems to fall", {"alignment": GAIN}, SEEMS_TO_FALL, "auto", "go-on"),
    ("the loss stays", {"alignment": GAIN}, LEVEL, "auto", "stop"),
    ("the loss seems to rise", {"alignment": GAIN}, SEEMS_TO_RISE, "auto", "stop"),
    ("the loss rises", {"alignment": GAIN}, RISES, "auto", "stop"),
    ("the loss was not measured", {"alignment": GAIN}, None, "auto", "stop"),
    ("no judge, and the loss falls", {}, FALLS, "auto", "go-on"),
    ("no judge, and the loss only seems to fall", {}, SEEMS_TO_FALL, "auto", "stop"),
    ("no judge, and the loss seems to rise", {}, SEEMS_TO_RISE, "auto", "stop"),
    ("no judge, and the loss rises", {}, RISES, "auto", "go-back"),
    ("nothing was measured", {}, None, "auto", "stop"),
]


@pytest.mark.parametrize(("gains", "held_out", "metric", "decision"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_the_rules_decide(gains: dict[str, Estimate], held_out: Estimate, metric: str, decision: Decision) -> None:
    assert judge(evidence(gains, held_out), metric).decision == decision


def test_every_reason_is_a_sentence_with_its_numbers() -> None:
    assert judge(evidence({"alignment": GAIN, "aesthetic": UNSURE}, FALLS)).reasons == (
        "B gains on A: alignment +0.300 [+0.100, +0.500].",
        "No judge finds B significantly worse, by the upper bounds +0.500 (alignment), +0.300 (aesthetic).",
        "The held-out denoising loss falls: -0.0200 [-0.0300, -0.0100].",
    )
    assert judge(evidence({"alignment": HARM, "aesthetic": UNSURE}, SEEMS_TO_RISE)).reasons == (
        "B has no certain gain on A: alignment -0.300 [-0.500, -0.100], aesthetic +0.100 [-0.100, +0.300].",
        "B is worse than A: alignment -0.300 [-0.500, -0.100].",
        "The held-out denoising loss does not fall, though its interval holds 0: +0.0100 [-0.0100, +0.0300].",
    )


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        (FALLS, "loss falls: -0.02"),
        (SEEMS_TO_FALL, "loss falls, though its interval holds 0: -0.01"),
        (LEVEL, "loss does not fall, though its interval holds 0: 0.00 [0.00, 0.00]"),
        (RISES, "loss rises: +0.02"),
        (None, "was not measured"),
    ],
)
def test_the_loss_is_told_by_point_and_interval(held_out: Estimate | None, words: str) -> None:
    assert words in judge(evidence(held_out=held_out)).reasons[2]


def test_where_no_judge_is_there_the_fall_of_the_loss_is_the_gain() -> None:
    assert judge(evidence({}, FALLS)).reasons[0] == "B gains on A: held-out loss +0.0200 [+0.0100, +0.0300]."
    assert judge(evidence({}, RISES)).reasons[1] == "B is worse than A: held-out loss -0.0200 [-0.0300, -0.0100]."


def test_small_and_large_numbers_keep_three_figures() -> None:
    assert "+0.000284 [+0.000251, +0.000317]" in judge(evidence({"a": Estimate(2.84e-4, 2.51e-4, 3.17e-4)})).reasons[0]
    assert "+284 [+251, +317]" in judge(evidence({"a": Estimate(284.4, 251.4, 317.4)})).reasons[0]


def test_a_difference_the_other_way_round_swaps_its_bounds() -> None:
    assert opposite(Estimate(0.3, 0.1, 0.6)) == Estimate(-0.3, -0.6, -0.1)


def test_a_judge_that_has_not_judged_is_refused_with_those_that_have() -> None:
    with pytest.raises(ConfigError, match=r"gate\.metric: 'aesthetic' has not judged B against A.*: alignment; name"):
        judge(evidence({"alignment": GAIN}), "aesthetic")
    with pytest.raises(ConfigError, match="judges that have: none"):
        judge(evidence({}), "aesthetic")


Chain = list[tuple[str, str, str]]  # stage, the stage it was trained from, what the rules say of it
SAYING = {
    "go-on": evidence({"alignment": GAIN}, FALLS),
    "stop": evidence({"alignment": UNSURE}, FALLS),
    "go-back": evidence({"alignment": HARM}, FALLS),
}
CHAINS: list[tuple[str, Chain, str]] = [
    ("one step that is justified", [("b", "a", "go-on")], "b"),
    ("one step that is not", [("b", "a", "stop")], "a"),
    ("one step back", [("b", "a", "go-back")], "a"),
    ("every step is justified", [("b", "a", "go-on"), ("c", "b", "go-on"), ("d", "c", "go-on")], "d"),
    ("the last step is not", [("b", "a", "go-on"), ("c", "b", "stop")], "b"),
    ("nothing is certain", [("b", "a", "stop"), ("c", "b", "stop")], "a"),
    ("a gain after a step that was only unsure", [("b", "a", "go-on"), ("c", "b", "stop"), ("d", "c", "go-on")], "d"),
    ("a gain on a worse model", [("b", "a", "go-on"), ("c", "b", "go-back"), ("d", "c", "go-on")], "b"),
    ("what follows a worse model stays out", [("b", "a", "go-back"), ("c", "b", "stop"), ("d", "c", "go-on")], "a"),
    ("gone back and tried again", [("b", "a", "go-on"), ("c", "b", "go-back"), ("d", "b", "go-on")], "d"),
    ("gone back, and not better", [("b", "a", "go-on"), ("c", "b", "go-back"), ("d", "b", "stop")], "b"),
    ("a gain on a model that was overtaken", [("b", "a", "stop"), ("c", "b", "go-on"), ("d", "b", "go-on")], "c"),
]  # fmt: skip


@pytest.mark.parametrize(("chain", "winner"), [c[1:] for c in CHAINS], ids=[c[0] for c in CHAINS])
def test_the_best_is_the_last_that_a_chain_of_gains_leads_to(chain: Chain, winner: str) -> None:
    shown = [
        evidence(dict(SAYING[says].gains), SAYING[says].held_out, stage=stage, before=before)
        for stage, before, says in chain
    ]
    assert [judge(each).decision for each in shown] == [says for _, _, says in chain]
    assert best(shown) == winner


def test_the_best_asks_the_named_judge() -> None:
    shown = [evidence({"alignment": GAIN, "aesthetic": UNSURE})]
    assert (best(shown), best(shown, "aesthetic")) == ("b", "a")


def test_of_no_evidence_nothing_is_best() -> None:
    with pytest.raises(ValueError, match="no evidence"):
        best([])
