"""The sentences that a recipe named before its numbers existed, and what the numbers say of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spin.core.recipe import Claim
from spin.report.figures import difference
from spin.report.request import Column
from spin.report.results.study import AVERAGE, Difference, Study
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
        seeds = len(self.difference.by_seed)
        with_sign = f"{self.difference.agreeing} of {seeds} seeds" if seeds > 1 else "one seed"
        said = difference(column, self.difference.estimate)
        return f"**{self.verdict.capitalize()}**: {self.claim.says} {column.title}: {said}; {with_sign} have this sign."


def judge(study: Study, claim: Claim) -> Judged:
    """above: the interval of the difference lies above 0. not below: it does not lie below 0."""
    model, other = study.row(claim.model), study.row(claim.over)
    found = None if model is None or other is None else study.difference(model.row, other.row, claim.on)
    if found is None:
        return Judged(claim, "not measured", None)
    better = -1 if column_of(study, claim.on).lower_is_better else 1
    low, high = sorted((better * found.estimate.low, better * found.estimate.high))
    if claim.wants == "not below":
        return Judged(claim, "does not hold" if high < 0 else "holds", found)
    return Judged(claim, "holds" if low > 0 else "does not hold" if high < 0 else "cannot be told", found)


def column_of(study: Study, metric: str) -> Column:
    """How a metric of the comparison is shown."""
    if metric == AVERAGE:
        return Column(AVERAGE, "Average z", 3, False, True, kind="average")
    found = [study.mean(row.row, metric) for row in study.rows]
    return column_for(metric, [value[0] for value in found if value is not None])
