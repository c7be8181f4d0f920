"""The sentences that a recipe named before its numbers existed, and what the numbers say of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spin.core.recipe import AVERAGE, Claim
from spin.report.figures import difference, signed
from spin.report.request import Column
from spin.report.results.study import Difference, Study
from spin.report.scoring import column_for

Verdict = Literal["holds", "does not hold", "cannot be told", "not measured"]


@dataclass(frozen=True)
class Judged:
    claim: Claim
    verdict: Verdict
    difference: Difference | None

    def sentence(self, study: Study) -> str:
        """What was claimed, what came out, in plain words."""
        if self.difference is None:
            return f"**Not measured**: {self.claim.says}"
        column = column_of(study, self.claim.on)
        said = difference(column, self.difference.estimate)
        seeds = ", ".join(signed(column, value) for value in self.difference.by_seed)
        apart = f"; seed by seed {seeds}" if len(self.difference.by_seed) > 1 else "; one seed"
        margin = f"; margin {signed(column, self.claim.margin).removeprefix('+')}" if self.claim.margin else ""
        return f"**{self.verdict.capitalize()}**: {self.claim.says} {column.title}: {said}{apart}{margin}."


def judge(study: Study, claim: Claim) -> Judged:
    """What the paired interval over prompts says, where every run seed by itself says it too.

    above      it lies above 0. does not hold: it lies below 0
    not below  it lies above -margin. does not hold: it lies below -margin
    within     it lies between -margin and margin. does not hold: it lies below the one or above the other
    same       no prompt differs, for any seed
    """
    model, other = study.row(claim.model), study.row(claim.over)
    found = None if model is None or other is None else study.difference(model.row, other.row, claim.on)
    if found is None:
        return Judged(claim, "not measured", None)
    if claim.wants == "same":
        return Judged(claim, "holds" if found.largest == 0 else "does not hold", found)
    better, limit = -1 if column_of(study, claim.on).lower_is_better else 1, claim.margin or 0.0
    told = [better * value for value in (found.estimate.low, found.estimate.high, *found.by_seed)]
    least, most = min(told), max(told)
    if least > -limit and (most < limit or claim.wants != "within"):
        return Judged(claim, "holds", found)
    outside = most < -limit or (claim.wants == "within" and least > limit)
    return Judged(claim, "does not hold" if outside else "cannot be told", found)


def column_of(study: Study, metric: str) -> Column:
    """How a metric of the comparison is shown."""
    if metric == AVERAGE:
        return Column(AVERAGE, "Average z", 3, False, True, kind="average")
    found = [study.mean(row.row, metric) for row in study.rows]
    return column_for(metric, [value[0] for value in found if value is not None])
