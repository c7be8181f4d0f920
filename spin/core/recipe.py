"""The recipe of a comparison: its arms, seeds and budgets, and the claims that are named before anybody looks."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from spin.core.config_rules import SCORERS, check_run_name
from spin.core.config_setting import LIST, Name, Section

BASE: Final = "base"  # the row of the model that all arms start from
AVERAGE: Final = "average"  # of the recipe's judges, each in standard deviations of the base
CHOSEN: Final = "chosen"  # the row of the iteration that other prompts chose
_MOST_ARMS: Final = 64


def _check_arm(name: str) -> str:
    if name == BASE or not name.replace("-", "").isalnum() or len(name) > 30 or name != name.lower():
        raise ValueError(f"expected up to 30 small letters, digits or '-', and not {BASE!r}; got {name[:40]!r}")
    return name


def _check_average(judges: tuple[str, ...]) -> tuple[str, ...]:
    unknown = next((judge for judge in judges if judge not in SCORERS), None)
    if unknown is not None:
        raise ValueError(f"no judge {unknown[:40]!r}; judges: {', '.join(SCORERS)}")
    return judges


class Budget(Section):
    """What an arm may spend, against the recipe's measure."""

    by: Literal["images", "time", "free"]
    factor: float = Field(default=1.0, gt=0, le=1000)
    why: Name | None = None

    @model_validator(mode="after")
    def _free_says_why(self) -> Self:
        if self.by == "free" and not self.why:
            raise ValueError("a free budget says why, in one sentence")
        return self

    def __str__(self) -> str:
        if self.by == "free":
            return f"of its own: {self.why}"
        words = "training images" if self.by == "images" else "device time"
        return f"{self.factor:g} x {words}"


class Rates(Section):
    """Device time of one unit of work, in supervised training images; `plan` and the results print them measured."""

    pair: float = Field(gt=0, le=1000)
    sampled_image: float = Field(gt=0, le=1e6)
    lora_image: float = Field(default=1.0, gt=0, le=1000)
    lora_pair: float | None = Field(default=None, gt=0, le=1000)  # None: as `pair`


class Arm(Section):
    """One way to spend the budget; or a checkpoint that somebody made elsewhere."""

    label: Name
    settings: dict[str, Any] = Field(default_factory=dict)
    budget: Budget | None = None
    rows: Literal["last", "all"] = "last"  # of the tables: the last model, or every iteration's
    checkpoint: Name | None = None  # a diffusers folder or hub id: scored, not trained


class Claim(Section):
    """A sentence that the numbers will bear out or not, written down before they exist."""

    says: Name
    model: Name  # an arm: its last model; or arm/iteration-01; or base
    over: Name
    on: Name = "average"
    wants: Literal["above", "not below", "within", "same"] = "above"
    margin: float | None = Field(default=None, gt=0)  # how far below, or to either side, counts as no difference

    @model_validator(mode="after")
    def _margin_where_it_is_asked(self) -> Self:
        if (self.wants in ("not below", "within")) != (self.margin is not None):
            raise ValueError("'not below' and 'within' need a margin, in the metric's unit; nothing else has one")
        return self


class Plot(Section):
    """A metric of some arms: side by side, or against what training has read (progress) or cost so far.

    `curves` joins arms to a line; without it each arm is one, through its iterations.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    title: Name
    kind: Literal["progress", "cost", "bars"] = "bars"
    metric: Name = "average"
    arms: Annotated[tuple[Name, ...], LIST] | None = None  # None: all
    curves: dict[str, Annotated[tuple[Name, ...], LIST]] | None = None


class Recipe(Section):
    """A comparison of arms that share base, real data, prompts and seeds."""

    name: Annotated[str, AfterValidator(check_run_name), Field(max_length=24)]
    question: Name
    config: Name = "miniature"  # preset or config file that every run starts from
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], LIST] = (0,)
    settings: dict[str, Any] = Field(default_factory=dict)
    average: Annotated[tuple[Name, ...], LIST, AfterValidator(_check_average)]
    choose: Name | None = None  # benchmark that chooses an iteration of each arm with rows: all; never the first one
    measure: Name  # the arm whose budget is 1
    budget: Budget | None = None  # of arms that name none
    rates: Rates | None = None  # None: measured by a probe before the first run
    arms: Annotated[dict[Annotated[str, AfterValidator(_check_arm)], Arm], Field(min_length=1, max_length=_MOST_ARMS)]
    claims: Annotated[tuple[Claim, ...], Field(strict=False)] = ()
    plots: Annotated[tuple[Plot, ...], Field(strict=False)] = ()

    def budget_of(self, arm: str) -> Budget | None:
        """What the arm may spend; None for the measure itself and for checkpoints."""
        if arm == self.measure or self.arms[arm].checkpoint is not None:
            return None
        return self.arms[arm].budget or self.budget

    @property
    def counts_time(self) -> bool:
        """Whether a budget is of device time, so that rates decide how many steps an arm takes."""
        return any(budget.by == "time" for arm in self.arms if (budget := self.budget_of(arm)))

    @property
    def trained(self) -> tuple[str, ...]:
        """Arms that are runs."""
        return tuple(name for name, arm in self.arms.items() if arm.checkpoint is None)
