"""A comparison before anything is trained: its data, what may not be compared, its rates, its arms and their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from flows.asking import Asked
from flows.entering import check_run, check_sources, locked, only_one
from flows.forecast import measured
from flows.forecast_work import evaluated_by, sampled_by
from flows.requests import Requests, ask_once
from flows.spin_diffusion import prepare_run
from spin.core.approximation import EXACT
from spin.core.benchmarks import HELD_OUT
from spin.core.budgets import check_equal, solved_steps, spent, steps_key
from spin.core.config import Config
from spin.core.draft import replace_file
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import RunsRoot
from spin.core.layout_beside import ComparisonFolder
from spin.core.leaks import held_out_captions, refuse_leaks, training_captions
from spin.core.recipe import Rates
from spin.core.recipe_file import Source
from spin.core.record import OtherRun, other_run
from spin.diffusion.families.facts import refuse_other_family
from spin.prepare.request import PrepareResult
from tasks.launching import device_of, find_device
from tasks.preparing import find_base
from tasks.showing import console

# Of every arm: what others made is taken, and a page of each run, which costs seconds, is written on demand.
_APART: Final = ("execution.adopt=true", "execution.report_page=false")
# Passes of the network, where no budget asks for the device's time: a supervised image is one forward and one backward
# (3), a pair four forward and two backward (8), an image 20 steps.
COUNTED: Final = Rates(pair=2.67, sampled_image=6.67)


@dataclass(frozen=True)
class Planned:
    """One arm with one seed, its steps solved."""

    arm: str
    seed: int
    config: Config
    images: int
    sampled: int
    time: float  # in supervised images
    solved: tuple[str, ...] = ()  # KEY=VALUE that the budget gave


@dataclass
class Game:
    """What the parts of one comparison share."""

    source: Source
    root: RunsRoot
    prepared: PrepareResult
    asked: tuple[Asked, ...]
    requests: Requests  # of the run that holds the data: all share its evaluation
    record: dict[str, Any]
    base: Path
    rates: Rates
    rates_from: str
    failed: dict[str, str] = field(default_factory=dict)  # by run: why it ended early in this call
    busy: list[str] = field(default_factory=list)  # runs that another process plays

    @property
    def folder(self) -> ComparisonFolder:
        return self.root.comparison(self.source.recipe.name)

    @property
    def train_rows(self) -> int:
        return self.prepared.rows["train"]


def open_game(source: Source, root: str) -> Game:
    """Prepare the data, refuse what may not be compared, measure the rates: before anything is trained."""
    recipe = source.recipe
    config = data_config(source, root)
    check_sources(config)
    requests = Requests(config, device_of(config.execution))
    _refuse_name_of_run(requests.root, recipe.name)
    base, _ = find_base(config.model.base)
    refuse_other_families(source, base, find=lambda name: find_base(name)[0])
    with one_at_a_time(requests.root.comparison(recipe.name)), only_one(requests.folder):
        _check(source, config)
        state, _ = prepare_run(requests)
        names = config.evaluation.benchmarks
        asked = tuple(ask_once(requests, state.record, name, lambda: state.prepared) for name in names)
        rates, origin = rates_of(source, requests.root.comparison(recipe.name), config, base)
    refuse_prompts(source, dict(zip(names, asked, strict=True)), state.prepared)
    return Game(source, requests.root, state.prepared, asked, requests, state.record, base, rates, origin)


def refuse_prompts(source: Source, asked: Mapping[str, Asked], prepared: PrepareResult) -> None:
    """Refuse prompts that were trained on, and those that would choose though they are reported.

    Args:
        asked: by the benchmark's name in the recipe, the reported one first.
    """
    trained, prompts = set(training_captions(prepared.prompts)), {}
    for name, each in asked.items():
        prompts[name] = set(_prompts_of(each, prepared))
        refuse_leaks(trained, prompts[name], benchmark=each.benchmark)
    reported, choose = next(iter(asked)), source.recipe.choose
    both = prompts[reported] & prompts[choose] if choose in prompts and choose not in HELD_OUT else set()
    if both:
        raise source.problem(("choose",), f"{len(both)} of its prompts are reported by {reported!r}; choose by others")


def data_config(source: Source, root: str) -> Config:
    """A run that trains nothing: it holds the data, and the base is evaluated as it says."""
    overrides = ["iterations=0", "sft.steps=0", *_APART]
    return source.shared_config(run=f"{source.recipe.name}.data", root=root, overrides=overrides)


def refuse_other_families(source: Source, base: Path, *, find: Callable[[str], Path]) -> None:
    """Refuse checkpoints that cannot stand in one table with the base model; `find` gives the folder of each."""
    for name, arm in source.recipe.arms.items():
        if arm.checkpoint is not None:
            refuse_other_family(f"arm {name!r}", find(arm.checkpoint), base)


def plan_arms(source: Source, rates: Rates, rows: int | None, root: str) -> list[Planned]:
    """Every run of the comparison, steps solved or checked against the budget of the measure.

    Args:
        rows: of the train split; None where the data is not prepared: an image is then sampled for each reading.
    """
    measure = source.config_of(source.recipe.measure, seed=source.recipe.seeds[0], root=root)
    unit = spent(measure, rates, rows=rows)
    plans = []
    for arm in source.recipe.trained:
        solved = _solved(source, arm, rates, rows, root, unit.by)
        for seed in source.recipe.seeds:
            config = source.config_of(arm, seed=seed, root=root, overrides=[*_APART, *solved])
            found = spent(config, rates, rows=rows)
            plans.append(Planned(arm, seed, config, found.images, found.sampled, found.time, tuple(solved)))
    return sorted(plans, key=lambda planned: source.recipe.seeds.index(planned.seed))


def check_arms(source: Source, plans: Iterable[Planned]) -> None:
    """Refuse runs of the root that stand with other settings, or were made by other code."""
    for planned in plans:
        _check(source, planned.config)


@contextmanager
def one_at_a_time(folder: ComparisonFolder) -> Iterator[None]:
    """Hold the comparison's lock; another process that plays other seeds is waited for."""

    def told() -> None:
        console.print(f"waiting for another process in {folder.path}", markup=False)

    with locked(folder.path, otherwise=told):
        yield


def rates_of(source: Source, folder: ComparisonFolder, config: Config, base: Path) -> tuple[Rates, str]:
    """The recipe's; else those of a probe before the first run, where a budget asks for time; else passes counted.

    All seeds and calls share one probe's, or their steps would differ: whoever asks first holds the lock.
    """
    recipe = source.recipe
    if recipe.rates is not None:
        return recipe.rates, "the recipe"
    if not recipe.counts_time:
        return COUNTED, "passes of the network, counted"
    if not folder.rates.exists():
        found = measured_rates(config, base)
        if not folder.rates.exists():  # `plan` may have measured meanwhile, and steps were told by its numbers
            replace_file(folder.rates, f"{found.model_dump_json()}\n".encode())
    try:
        return Rates.model_validate_json(folder.rates.read_text("utf-8")), "a probe"
    except (OSError, ValueError) as error:
        raise ArtifactError("is damaged", where=str(folder.rates), fix="delete it; rates are measured anew") from error


def measured_rates(config: Config, base: Path) -> Rates:
    """Device time of a pair and of an image sampled in 20 steps, in supervised images, from a batch of each."""
    sampled = replace(sampled_by(config), guided=False, steps=20, scheduler="dpmsolver++", approximation=EXACT)
    unasked = replace(evaluated_by(config), guided=False, steps=1, scheduler="dpmsolver++")
    device = find_device(config.execution.device)
    found = measured(config, base, device, sampled=sampled, evaluated=unasked)
    image = found.sft_image
    return Rates(pair=round(found.pair / image, 3), sampled_image=round(found.sampled_image / image, 3))


def _solved(
    source: Source, arm: str, rates: Rates, rows: int | None, root: str, unit: Callable[[str], float]
) -> list[str]:
    """Steps that the arm's budget gives, as an override; none where the arm names its own, which are checked."""
    budget = source.recipe.budget_of(arm)
    config = source.config_of(arm, seed=source.recipe.seeds[0], root=root)
    if budget is None or budget.by == "free":
        return []
    key, allowed = steps_key(config), budget.factor * unit(budget.by)
    try:
        if not source.names(arm, key):
            return [f"{key}={solved_steps(config, rates, rows=rows, by=budget.by, budget=allowed, arm=arm)}"]
        check_equal(config, rates, rows=rows, by=budget.by, budget=allowed, arm=arm, measure=source.recipe.measure)
    except ConfigError as error:
        raise source.problem(("arms", arm), f"{error.message}; {error.fix}") from None
    return []


def _check(source: Source, config: Config) -> None:
    """A run's own refusal names a way out that a recipe does not have."""
    try:
        check_run(config)
    except OtherRun as error:
        way = "give the recipe another name, or take another --root"
        told = other_run(config.run.name, error.changes, way=way)
        raise source.problem(("name",), f"{error.where}: {told}") from None


def _refuse_name_of_run(root: RunsRoot, name: str) -> None:
    if root.run(name).record.exists():
        raise ConfigError(f"a run has the name {name!r}", where=str(root.path), fix="give the recipe another name")


def _prompts_of(asked: Asked, prepared: PrepareResult) -> Iterable[str]:
    if asked.prompts is None:
        assert asked.benchmark in HELD_OUT
        return held_out_captions(prepared.prompts, asked.benchmark)
    found: list[str] = pq.read_table(asked.prompts, columns=["prompt"])["prompt"].to_pylist()
    return found
