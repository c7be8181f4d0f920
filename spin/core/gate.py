"""The iteration gate: whether a new model goes on, judged by its gains over the model before it.

Three rules, each asked of paired 95 % intervals (per judge, unadjusted):

    gain    the lower bound of a gain is above 0: that of the named judge, or with "auto" of at least one
    harm    no judge is significantly worse: no upper bound of a gain is below 0
    loss    the held-out denoising loss falls: its difference is below 0

All hold: go on. `harm` is broken: go back, the model before is better. Else: stop.

Falling is asked of the loss itself, not of its interval: self-play moves it little, and a rule that wanted
certainty would stop runs whose judges are certain. A fall whose interval holds 0 is named as such. A loss that
was not measured has not been seen to fall.

Where no judge sees the pictures (your own data) and "auto" is asked, the held-out loss stands in for them: its
fall is the gain, so to go on its interval must exclude 0, and where it rises for certain the model before is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from spin.core.errors import ConfigError
from spin.core.statistics import Estimate

Decision = Literal["go-on", "stop", "go-back"]
AUTO: Final = "auto"
LOSS: Final = "held-out loss"


@dataclass(frozen=True)
class Evidence:
    """What was measured of one model against the model before it."""

    stage: str
    label: str
    before: str  # stage of the model before
    against: str  # its label
    gains: Mapping[str, Estimate]  # by judge: paired difference, positive is better
    held_out: Estimate | None  # difference of the held-out denoising loss, negative is falling; None: not measured


@dataclass(frozen=True)
class Verdict:
    decision: Decision
    reasons: tuple[str, ...]  # one sentence for each rule


@dataclass(frozen=True)
class _Answer:
    holds: bool
    reason: str


def judge(evidence: Evidence, metric: str = AUTO) -> Verdict:
    """Ask the three rules of one model.

    Args:
        metric: judge whose gain is asked for; "auto" takes any.
    """
    gains = _gains(evidence, metric)
    gain, harm, loss = _gain(evidence, gains, metric), _harm(evidence, gains), _loss(evidence)
    decision: Decision = "go-back" if not harm.holds else "go-on" if gain.holds and loss.holds else "stop"
    return Verdict(decision, (gain.reason, harm.reason, loss.reason))


def best(evidences: Sequence[Evidence], metric: str = AUTO) -> str:
    """Stage of the best model so far.

    The champion is first the model before the first evidence. In the order given, a stage becomes champion where the
    rules let it go on and it comes from the champion: was trained from it, or from a stage that was and for which
    the rules only said stop. What comes from a model that was to be gone back from is passed over: it was measured
    against a worse model than the champion, so nothing says that it is better.

    Args:
        evidences: at least one, in the order of the run.
    """
    if not evidences:
        raise ValueError("the best of no evidence was asked for")
    champion = evidences[0].before
    line = {champion}  # the champion and what came from it without a step back
    for evidence in evidences:
        if evidence.before not in line:
            continue
        decision = judge(evidence, metric).decision
        if decision == "go-on":
            champion, line = evidence.stage, {evidence.stage}
        elif decision == "stop":
            line.add(evidence.stage)
    return champion


def opposite(estimate: Estimate) -> Estimate:
    """The same difference with its sign turned: 0.3 [0.1, 0.6] becomes -0.3 [-0.6, -0.1]."""
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _gains(evidence: Evidence, metric: str) -> Mapping[str, Estimate]:
    """Gains that are asked; where no judge is there, the fall of the held-out loss."""
    if metric not in (AUTO, *evidence.gains):
        known = ", ".join(evidence.gains) or "none"
        problem = f"{metric!r} has not judged {evidence.label} against {evidence.against}; judges that have: {known}"
        raise ConfigError(problem, where="gate.metric", fix="name one of these, or auto")
    if evidence.gains or evidence.held_out is None:
        return evidence.gains
    return {LOSS: opposite(evidence.held_out)}


def _gain(evidence: Evidence, gains: Mapping[str, Estimate], metric: str) -> _Answer:
    asked = gains if metric == AUTO else {metric: gains[metric]}
    sure = {name: gain for name, gain in asked.items() if gain.low > 0}
    if sure:
        return _Answer(True, f"{evidence.label} gains on {evidence.against}: {_listed(sure)}.")
    if not asked:
        return _Answer(False, f"{evidence.label} was not compared with {evidence.against}: nothing shows a gain.")
    return _Answer(False, f"{evidence.label} has no certain gain on {evidence.against}: {_listed(asked)}.")


def _harm(evidence: Evidence, gains: Mapping[str, Estimate]) -> _Answer:
    worse = {name: gain for name, gain in gains.items() if gain.high < 0}
    if worse:
        return _Answer(False, f"{evidence.label} is worse than {evidence.against}: {_listed(worse)}.")
    if not gains:
        return _Answer(True, f"No judge says that {evidence.label} is worse than {evidence.against}.")
    bounds = ", ".join(f"{_signed(gain.high, _digits(gain))} ({name})" for name, gain in gains.items())
    return _Answer(True, f"No judge finds {evidence.label} significantly worse, by the upper bounds {bounds}.")


def _loss(evidence: Evidence) -> _Answer:
    loss = evidence.held_out
    if loss is None:
        return _Answer(False, "The held-out denoising loss was not measured, so nothing shows that it falls.")
    falls, certain = loss.value < 0, loss.high < 0 or loss.low > 0
    if falls:
        word = "falls" if certain else "falls, though its interval holds 0"
    else:
        word = "rises" if certain else "does not fall, though its interval holds 0"
    return _Answer(falls, f"The held-out denoising loss {word}: {_number(loss)}.")


def _listed(gains: Mapping[str, Estimate]) -> str:
    return ", ".join(f"{name} {_number(gain)}" for name, gain in gains.items())


def _number(estimate: Estimate) -> str:
    """Value and interval, signed: +0.284 [+0.251, +0.317]."""
    digits = _digits(estimate)
    return f"{_signed(estimate.value, digits)} [{_signed(estimate.low, digits)}, {_signed(estimate.high, digits)}]"


def _digits(estimate: Estimate) -> int:
    """Decimals that leave the largest bound three figures."""
    size = max(abs(estimate.value), abs(estimate.low), abs(estimate.high))
    return max(0, 2 - math.floor(math.log10(size))) if 0 < size < math.inf else 2


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]  # no "-0.00"
