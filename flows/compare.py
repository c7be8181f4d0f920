"""Arms side by side: each a run of the same pipeline with its own recipe, sharing base, data, prompts and seeds.

What two arms have in common (the supervised start, an opponent's images) is made once; pictures and scores are shared
by every run of the root anyway. Nothing of a finished arm is made again, so the same call goes on after a stop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import flow
from prefect.states import Completed
from pydantic import BaseModel, Field

from flows.asking import HELD_OUT, Asked
from flows.entering import check_run, check_sources, only_one
from flows.executors import executor_of
from flows.forms import root_field
from flows.naming import named, tag_run
from flows.requests import Model, Requests, ask_once
from flows.spin_diffusion import prepare_run, spin_diffusion
from spin.core.budgets import check_equal, solved_steps, spent, steps_key
from spin.core.config import Config
from spin.core.config_identity import config_to_json
from spin.core.environment import code_version, cpu_model, versions
from spin.core.errors import ConfigError, TrainingError
from spin.core.families import refuse_other_family
from spin.core.layout import ComparisonFolder, EvaluationFolder, RunsRoot
from spin.core.leaks import held_out_captions, refuse_leaks, training_captions
from spin.core.recipe import Rates
from spin.core.recipe_file import Source, load_recipe
from spin.prepare.request import PrepareResult
from spin.report.results.facts import Facts, write_facts, write_scores
from spin.report.results.gathering import Checkpoint, Played, base_of, gather_checkpoints, gather_runs, rows_of
from spin.report.results.page import write_chapter
from spin.report.results.pictures import write_pictures
from tasks.launching import device_of, find_device
from tasks.preparing import find_base
from tasks.showing import console
from tasks.telling import show_text


class CompareForm(BaseModel):
    """What the page of `compare` asks."""

    recipe: str = Field(
        default="baselines", title="Recipe", description="name of a packaged recipe, or a file on the worker's machine",
        min_length=1, json_schema_extra={"position": 0},
    )  # fmt: skip
    seeds: list[int] | None = Field(
        default=None, title="Seeds", description="of the recipe's, those to play now (empty: all)",
        json_schema_extra={"position": 1},
    )  # fmt: skip
    settings: list[str] | None = Field(
        default=None, title="Other settings", description="KEY=VALUE each, of execution.*, data.*, model.base",
        json_schema_extra={"position": 2},
    )  # fmt: skip
    root: str = root_field(3)


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


@dataclass(frozen=True)
class Compared:
    """What the caller of a comparison gets."""

    folder: Path
    page: Path
    played: int
    failed: tuple[str, ...] = ()


@dataclass
class Game:
    """What the parts of one comparison share."""

    source: Source
    root: RunsRoot
    prepared: PrepareResult
    asked: tuple[Asked, ...]
    requests: Requests  # of the measure's first run: whose evaluation all share
    record: dict[str, Any]
    rates: Rates
    rates_from: str
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> ComparisonFolder:
        return self.root.comparison(self.source.recipe.name)

    @property
    def train_rows(self) -> int:
        return self.prepared.rows["train"]


@flow(name="compare", flow_run_name=named(lambda given: f"compare {given.get('recipe')}"), persist_result=False)
def compare(
    recipe: str = "baselines", seeds: list[int] | None = None, settings: list[str] | None = None, root: str = "runs"
) -> Any:  # a state that carries Compared, which Prefect hands to callers
    """Play every arm of a recipe with every seed, and write the tables; what stands is only read."""
    source = load_recipe(recipe, settings or [])
    wanted = source.chosen_seeds(seeds)
    tag_run("spin-diffusion", source.recipe.name)
    game = _open(source, root)
    plans = plan_arms(game.source, game.rates, game.train_rows, root)
    for planned in plans:
        check_run(planned.config)
    _play([planned for planned in plans if planned.seed in wanted], game)
    checkpoints = _score_checkpoints(game)
    compared = _conclude(game, plans, checkpoints)
    show_text(source.recipe.name, compared.page.read_text("utf-8"), f"comparison {source.recipe.name}")
    if compared.failed:
        names = ", ".join(compared.failed)
        raise TrainingError(
            f"{len(compared.failed)} of {len(plans)} runs ended early: {names}", where=str(compared.page)
        )
    return Completed(message=f"{compared.played} runs; {source.recipe.name}", data=compared)


def plan_arms(source: Source, rates: Rates, rows: int, root: str) -> list[Planned]:
    """Every run of the comparison, steps solved or checked against the budget of the measure."""
    measure = source.config_of(source.recipe.measure, seed=source.recipe.seeds[0], root=root)
    unit = spent(measure, rates, rows=rows)
    apart = ["execution.adopt=true", "execution.report_page=false"]  # a page of each run costs seconds: on demand
    plans = []
    for arm in source.recipe.trained:
        solved = _solved(source, arm, rates, rows, root, unit.by)
        for seed in source.recipe.seeds:
            config = source.config_of(arm, seed=seed, root=root, overrides=[*apart, *solved])
            found = spent(config, rates, rows=rows)
            plans.append(Planned(arm, seed, config, found.images, found.sampled, found.time, tuple(solved)))
    return sorted(plans, key=lambda planned: source.recipe.seeds.index(planned.seed))


def _solved(source: Source, arm: str, rates: Rates, rows: int, root: str, unit: Any) -> list[str]:
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


def _open(source: Source, root: str) -> Game:
    """Prepare the data, refuse what may not be compared, measure the rates: before anything is trained."""
    recipe = source.recipe
    config = source.config_of(recipe.measure, seed=recipe.seeds[0], root=root, overrides=["execution.adopt=true"])
    check_sources(config)
    check_run(config)
    requests = Requests(config, device_of(config.execution))
    _refuse_name_of_run(requests.root, recipe.name)
    with only_one(requests.folder):
        state, base = prepare_run(requests)
        names = config.evaluation.benchmarks
        asked = tuple(ask_once(requests, state.record, name, lambda: state.prepared) for name in names)
    for each in asked:
        trained = training_captions(state.prepared.prompts)
        refuse_leaks(trained, _prompts_of(each, state.prepared), benchmark=each.benchmark)
    for name, arm in recipe.arms.items():
        if arm.checkpoint is not None:
            refuse_other_family(f"arm {name!r}", find_base(arm.checkpoint)[0], base.folder)
    rates, origin = _rates(source, requests.root.comparison(recipe.name), config, base.folder)
    return Game(source, requests.root, state.prepared, asked, requests, state.record, rates, origin)


def _refuse_name_of_run(root: RunsRoot, name: str) -> None:
    if root.run(name).record.exists():
        raise ConfigError(f"a run has the name {name!r}", where=str(root.path), fix="give the recipe another name")


def _prompts_of(asked: Asked, prepared: PrepareResult) -> Iterable[str]:
    if asked.prompts is None:
        assert asked.benchmark in HELD_OUT
        return held_out_captions(prepared.prompts, asked.benchmark)
    return pq.read_table(asked.prompts, columns=["prompt"])["prompt"].to_pylist()


def _rates(source: Source, folder: ComparisonFolder, config: Config, base: Path) -> tuple[Rates, str]:
    """The recipe's, or those that a probe measured before the first run."""
    if source.recipe.rates is not None:
        return source.recipe.rates, "recipe"
    if not folder.rates.exists():
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.rates.write_text(json.dumps(measured_rates(config, base).model_dump()) + "\n", "utf-8")
    return Rates.model_validate_json(folder.rates.read_text("utf-8")), "probe"


def measured_rates(config: Config, base: Path) -> Rates:
    """Device time of a pair and of an image sampled in 20 steps, in supervised images, from a batch of each."""
    from spin.diffusion.probe import measure  # torch: only running flows pay for it

    found = measure(
        base,
        sampling_guidance=1.0,
        sampling_steps=20,
        sampling_batch=config.sampling.batch_size,
        evaluation_guidance=1.0,
        evaluation_steps=1,
        micro_batch=min(config.train.micro_batch_size, config.train.batch_size),
        device=find_device(config.execution.device),
        threads=config.execution.threads,
    )
    return Rates(
        pair=round(found.pair / found.sft_image, 3), sampled_image=round(found.sampled_image / found.sft_image, 3)
    )


def _play(plans: Sequence[Planned], game: Game) -> None:
    """Run after run; one that ends early is told at the end, and the others go on."""
    start, done, total = time.perf_counter(), 0.0, sum(planned.time for planned in plans)
    for number, planned in enumerate(plans, start=1):
        name, left = planned.config.run.name, (time.perf_counter() - start) / done * (total - done) if done else None
        estimate = "" if left is None else f"; about {left / 60:.0f} min left"
        console.print(f"[{number}/{len(plans)}] {name}: {planned.images:,} training images{estimate}", markup=False)
        try:
            spin_diffusion(config=config_to_json(planned.config))
        except ConfigError:
            raise
        except Exception as error:  # told below, when the others are done
            game.failed[name] = str(error).splitlines()[0]
            console.print(f"{name} ended early: {game.failed[name]}", markup=False)
        done += planned.time


def _score_checkpoints(game: Game) -> list[Checkpoint]:
    executor, found = executor_of(game.requests), []
    for name, arm in game.source.recipe.arms.items():
        if arm.checkpoint is not None:
            folder, digest = find_base(arm.checkpoint)
            result = executor.evaluate(game.asked[0], Model(name, arm.label, folder, digest))
            found.append(Checkpoint(name, EvaluationFolder(result.folder)))
    return found


def _conclude(game: Game, plans: Sequence[Planned], checkpoints: Sequence[Checkpoint]) -> Compared:
    """Gather scores and facts of all runs and write the page."""
    recipe, folder = game.source.recipe, game.folder
    played = [_played(game, planned) for planned in plans]
    runs, scores, first = gather_runs(game.root, recipe, played)
    scores += gather_checkpoints(game.root, checkpoints, recipe.seeds)
    rows = rows_of(recipe, first)
    shown = {row.row for row in rows}
    measure = first[recipe.measure]
    facts = Facts(
        recipe=recipe,
        overrides=game.source.overrides,
        benchmark=measure.key,
        evaluation=config_to_json(game.requests.config)["evaluation"],
        rates=game.rates.model_dump(),
        rates_from=game.rates_from,
        train_rows=game.train_rows,
        prompts=len({prompt for _, _, prompt, _, _ in scores}),
        code_version=code_version(),
        versions=versions(),
        machine=cpu_model() if game.requests.device == "cpu" else "GPU",
        base_digest=base_of(measure.folder),
        base_set_metrics=dict(measure.stages[0].evaluation.set_metrics),
        rows=tuple(rows),
        runs=tuple(runs),
    )
    folder.path.mkdir(parents=True, exist_ok=True)
    write_facts(folder.path, facts)
    write_scores(folder.path, [score for score in scores if score[0] in shown])
    write_pictures(folder.pictures, first, rows)
    return Compared(folder.path, write_chapter(folder.path), len(plans), tuple(game.failed))


def _played(game: Game, planned: Planned) -> Played:
    arm = game.source.recipe.arms[planned.arm]
    counted = {"images": float(planned.images), "sampled": float(planned.sampled), "time": planned.time}
    settings = {**arm.settings, "solved": list(planned.solved)}
    name = planned.config.run.name
    return Played(planned.arm, planned.seed, name, counted, settings, game.failed.get(name))
