"""Arms side by side: each a run of the same pipeline with its own recipe, sharing base, data, prompts and seeds.

What two arms have in common (the supervised start, an opponent's images) is made once; pictures and scores are shared
by every run of the root anyway. Nothing of a finished arm is made again, so the same call goes on after a stop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed
from pydantic import BaseModel, Field

from flows.comparison import Game, Planned, check_arms, one_at_a_time, open_game, plan_arms
from flows.entering import BusyRun, only_one
from flows.evaluate_checkpoint import made_elsewhere
from flows.executors import executor_of
from flows.forms import root_field
from flows.naming import named, tag_run
from flows.requests import Model
from flows.spin_diffusion import spin_diffusion
from spin.core.config_identity import config_to_json
from spin.core.environment import code_version, versions
from spin.core.errors import ConfigError, TrainingError
from spin.core.layout import EvaluationFolder
from spin.core.recipe_file import load_recipe
from spin.core.record import write_record
from spin.report.results.facts import Facts
from spin.report.results.gathering import Checkpoint, Played, gather
from spin.report.results.page import write_results
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
class Compared:
    """What the caller of a comparison gets."""

    folder: Path
    page: Path
    played: int  # runs of this call, standing ones among them


@flow(name="compare", flow_run_name=named(lambda given: f"compare {given.get('recipe')}"), persist_result=False)
def compare(
    recipe: str = "baselines", seeds: list[int] | None = None, settings: list[str] | None = None, root: str = "runs"
) -> Any:  # a state that carries Compared, which Prefect hands to callers
    """Play every arm of a recipe with every seed, and write the tables; what stands is only read."""
    source = load_recipe(recipe, settings or [])
    wanted = source.chosen_seeds(seeds)
    tag_run("spin-diffusion", source.recipe.name)
    game = open_game(source, root)
    plans = plan_arms(source, game.rates, game.train_rows, root)
    check_arms(source, plans)
    now = [planned for planned in plans if planned.seed in wanted]
    checkpoints = _score_checkpoints(game)
    _play(now, game)
    page = _conclude(game, plans, checkpoints)
    show_text(source.recipe.name, page.read_text("utf-8"), f"comparison {source.recipe.name}")
    if game.failed:
        names = ", ".join(game.failed)
        raise TrainingError(f"{len(game.failed)} runs ended early: {names}", where=str(page))
    left = f"; {len(game.busy)} are played by another process" if game.busy else ""
    return Completed(message=f"{len(now)} runs{left}; {source.recipe.name}", data=Compared(page.parent, page, len(now)))


def _play(plans: Sequence[Planned], game: Game) -> None:
    """Run after run; one that ends early is told at the end, and the others go on."""
    start, done, left = time.perf_counter(), 0.0, sum(planned.time for planned in plans)
    for number, planned in enumerate(plans, start=1):
        name = planned.config.run.name
        minutes = (time.perf_counter() - start) / done * left / 60 if done else None
        estimate = "" if minutes is None else f"; about {minutes:.0f} min left"
        console.print(f"[{number}/{len(plans)}] {name}: {planned.images:,} training images{estimate}", markup=False)
        worked = _play_one(planned, game)
        left -= planned.time
        if worked:
            done += planned.time
        elif not done:
            start = time.perf_counter()  # standing runs tell nothing of what is left


def _play_one(planned: Planned, game: Game) -> bool:
    """Whether anything was made."""
    name = planned.config.run.name
    try:
        summary: Any = spin_diffusion(config=config_to_json(planned.config))
    except BusyRun:
        game.busy.append(name)
        console.print(f"{name} is played by another process", markup=False)
        return False
    except ConfigError:
        raise
    except Exception as error:  # told when the others are done
        game.failed[name] = (str(error) or type(error).__name__).splitlines()[0]
        console.print(f"{name} ended early: {game.failed[name]}", markup=False)
        return True
    return bool(summary.totals.optimizer_steps or summary.totals.images_sampled)


def _score_checkpoints(game: Game) -> list[Checkpoint]:
    """First, so that a checkpoint that cannot be scored is told before hours of training."""
    arms = {name: arm for name, arm in game.source.recipe.arms.items() if arm.checkpoint is not None}
    models = [Model(name, arm.label, *find_base(str(arm.checkpoint))) for name, arm in arms.items()]
    _note_checkpoints(game, models)
    executor = executor_of(game.requests)
    scored = ((model.name, executor.evaluate(game.asked[0], model)) for model in models)
    return [Checkpoint(name, EvaluationFolder(result.folder)) for name, result in scored]


def _note_checkpoints(game: Game, models: Sequence[Model]) -> None:
    """Write checkpoints into the record of the data's run: workers find models there."""
    if not models:
        return
    names = {model.name for model in models}
    with only_one(game.requests.folder):
        others = [stage for stage in game.record["stages"] if stage["name"] not in names]
        game.record["stages"] = [*others, *(made_elsewhere(model, game.root, known={}) for model in models)]
        write_record(game.requests.folder, game.record)


def _conclude(game: Game, plans: Sequence[Planned], checkpoints: Sequence[Checkpoint]) -> Path:
    """Gather scores and facts of all runs and write the page."""
    recipe, folder = game.source.recipe, game.folder
    with one_at_a_time(folder):
        played = [_played(game, planned) for planned in plans]
        gathered = gather(game.root, folder.path, recipe, played, checkpoints)
        facts = Facts(
            recipe=recipe,
            overrides=game.source.overrides,
            evaluation=config_to_json(game.requests.config)["evaluation"],
            rates=game.rates.model_dump(),
            rates_from=game.rates_from,
            train_rows=game.train_rows,
            code_version=code_version(),
            versions=versions(),
            base_digest=game.record["base"]["digest"],
            benchmark=gathered.benchmark,
            machine=gathered.machine,
            prompts=gathered.prompts,
            set_metrics=gathered.set_metrics,
            rows=gathered.rows,
            runs=gathered.runs,
        )
        return write_results(folder, facts, gathered)


def _played(game: Game, planned: Planned) -> Played:
    arm = game.source.recipe.arms[planned.arm]
    counted = {"images": float(planned.images), "sampled": float(planned.sampled), "time": planned.time}
    settings = {**arm.settings, "solved": list(planned.solved)}
    config, name = planned.config, planned.config.run.name
    return Played(planned.arm, planned.seed, name, counted, settings, config.stages, game.failed.get(name))
