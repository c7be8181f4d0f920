"""Reads recipes: a packaged one or a file, checked whole, every problem named with its line.

    source = load_recipe("baselines")
    source.config_of("spin", seed=0, root="runs").train.beta

Each arm is a run of the same pipeline: the recipe's config, the settings of all arms, and its own on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from spin.core.benchmarks import HELD_OUT
from spin.core.config import Config, load_config
from spin.core.config_file import (
    KeyPath,
    Layer,
    Position,
    Problem,
    in_lines,
    key_text,
    nearest_place,
    read_config_file,
    read_config_text,
)
from spin.core.config_messages import did_you_mean, problems_of
from spin.core.config_rules import DIVERSITY, READ_CAPTIONS, SET_METRICS, scorers_of
from spin.core.config_setting import Section
from spin.core.errors import ConfigError
from spin.core.recipe import AVERAGE, BASE, CHOSEN, Arm, Budget, Claim, Plot, Rates, Recipe

_OPEN: Final = ("execution.", "data.", "model.base")  # keys that may be set beside a recipe, for all arms alike


@dataclass(frozen=True)
class Source:
    """A recipe and the file that it was read from, so that a problem can name its line."""

    recipe: Recipe
    layer: Layer
    config: str | Path  # what `recipe.config` names: a preset, or a file beside the recipe
    overrides: tuple[str, ...] = ()  # KEY=VALUE, for all arms

    def config_of(self, arm: str, *, seed: int, root: str, overrides: Sequence[str] = ()) -> Config:
        """The config of one arm's run."""
        name = run_name(self.recipe.name, arm, seed)
        return self._config(name, seed, root, overrides, ("settings",), ("arms", arm, "settings"))

    def shared_config(self, *, run: str, root: str, overrides: Sequence[str] = ()) -> Config:
        """The config of a run with what all arms share, and nothing of any arm's."""
        return self._config(run, self.recipe.seeds[0], root, overrides, ("settings",))

    def _config(self, run: str, seed: int, root: str, overrides: Sequence[str], *below: KeyPath) -> Config:
        own = [f"run.name={run}", f"run.seed={seed}", f"run.root={root}"]
        layers = [_below(self.layer, path, index) for index, path in enumerate(below, start=1)]
        return load_config(self.config, layers=layers, overrides=[*own, *self.overrides, *overrides])

    def names(self, arm: str, key: str) -> bool:
        """Whether recipe or arm set this config key themselves."""
        section, _, name = key.partition(".")
        own = (self.recipe.settings, self.recipe.arms[arm].settings)
        return any(name in found if isinstance(found := tree.get(section), Mapping) else False for tree in own)

    def chosen_seeds(self, wanted: Sequence[int] | None) -> tuple[int, ...]:
        """The recipe's seeds, or some of them."""
        known = self.recipe.seeds
        strange = [seed for seed in wanted or () if seed not in known]
        if strange:
            raise ConfigError(f"the recipe has no seed {strange[0]}", fix=f"its seeds: {', '.join(map(str, known))}")
        return tuple(wanted or known)

    def problem(self, path: KeyPath, message: str) -> ConfigError:
        """An error that names file, line and key."""
        return ConfigError(str(_problem(self.layer, path, message)))


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that travel with the package, sorted."""
    files = resources.files("configs").joinpath("compare").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def is_recipe(source: str) -> bool:
    """Whether this names a recipe, not the config of a run: by its name, or by the `arms` in the file."""
    path = Path(source)
    if not path.is_file():
        return source in recipe_names()
    try:
        return "arms" in read_config_file(path).values
    except ConfigError:
        return False


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Source:
    """The recipe of this name or file; every problem is named at once, each with its line.

    Args:
        overrides: KEY=VALUE of what is this machine's or the user's, not the recipe's: see `_OPEN`.
    """
    _refuse_other_keys(overrides)
    layer, folder = _read(source)
    problems = list(layer.problems)
    recipe = None
    try:
        recipe = Recipe.model_validate(layer.values)
    except ValidationError as error:
        known = {problem.key for problem in problems}
        new = [_problem(layer, path, _in_words(path, message)) for path, message in problems_of(error)]
        problems += [problem for problem in new if problem.key not in known]
    if recipe is not None:
        problems += _unknown_names(recipe, layer)
    if problems or recipe is None:
        raise ConfigError(in_lines(problems))
    beside = folder / recipe.config if folder is not None else None
    config = beside if beside is not None and beside.is_file() else recipe.config
    read = Source(recipe, layer, config, tuple(overrides))
    configs = {}
    for arm in recipe.trained:
        _refuse_shared_keys(read, arm)
        _refuse_overridden(read, arm)
        configs[arm] = read.config_of(arm, seed=recipe.seeds[0], root="runs")
    _check_choice(read, configs[recipe.measure])
    _refuse_unread_captions(read)
    _check_claims(read, configs)
    return read


def _refuse_other_keys(overrides: Sequence[str]) -> None:
    strange = [text for text in overrides if not text.startswith(_OPEN)]
    if strange:
        allowed = f"set {', '.join(f'{key}*' if key.endswith('.') else key for key in _OPEN)} only"
        raise ConfigError("all else stands in the recipe", where=f"--set {strange[0]}", fix=allowed)


def _refuse_overridden(source: Source, arm: str) -> None:
    """What tells arms apart is not for --set to make equal."""
    for text in source.overrides:
        section, _, name = text.partition("=")[0].partition(".")
        if name in (source.recipe.arms[arm].settings.get(section) or {}):
            raise source.problem(("arms", arm, "settings", section, name), f"the arm's own; leave out --set {text}")


def run_name(recipe: str, arm: str, seed: int) -> str:
    """Name of the run of one arm and seed."""
    return f"{recipe}.{arm}.{seed}"


def _read(source: str) -> tuple[Layer, Path | None]:
    if source in recipe_names():
        text = resources.files("configs").joinpath("compare", f"{source}.yaml").read_text(encoding="utf-8")
        return read_config_text(text, label=f"configs/compare/{source}.yaml"), None
    path = Path(source).expanduser()
    if not path.exists() and path.name == source and not path.suffix:
        near = did_you_mean(source, recipe_names())
        hint = f"did you mean {near!r}? " if near else ""
        raise ConfigError(f"no recipe {source[:40]!r}; {hint}recipes: {', '.join(recipe_names())}, or a file")
    return read_config_file(path), path.absolute().parent


def _below(layer: Layer, path: KeyPath, index: int) -> Layer:
    """What stands below a key of the recipe, as a layer of a config that still knows its lines."""
    values: Any = layer.values
    for part in path:
        values = values.get(part, {}) if isinstance(values, Mapping) else {}

    def shifted(places: Mapping[KeyPath, Position]) -> dict[KeyPath, Position]:
        depth = len(path)
        return {
            place[depth:]: Position(index, at.line, at.column, at.label)
            for place, at in places.items()
            if place[:depth] == path
        }

    return Layer(layer.label, index, dict(values or {}), shifted(layer.positions), shifted(layer.key_positions))


def _problem(layer: Layer, path: KeyPath, message: str) -> Problem:
    position = layer.key_positions.get(path) or nearest_place(layer.positions, path) or Position(0, 0, 0, layer.label)
    return Problem(position, key_text(path), message)


def _in_words(path: KeyPath, message: str) -> str:
    """An unknown key of a recipe is none of the config's."""
    if not message.startswith("unknown key"):
        return message
    inside: dict[str, type[Section]] = {"claims": Claim, "plots": Plot, "rates": Rates, "arms": Arm}
    kind = Budget if "budget" in path[:-1] else inside.get(str(path[0]), Recipe) if len(path) > 1 else Recipe
    near = did_you_mean(str(path[-1]), kind.model_fields)
    return f"unknown key; did you mean {near!r}?" if near else f"unknown key; known: {', '.join(kind.model_fields)}"


def _unknown_names(recipe: Recipe, layer: Layer) -> list[Problem]:
    """Arms that are named and not there, seeds twice, arms without a budget."""
    found = []
    known = f"arms: {', '.join(recipe.arms)}"
    if recipe.measure not in recipe.trained:
        found.append(_problem(layer, ("measure",), f"no trained arm {recipe.measure!r}; {known}"))
    for number, claim in enumerate(recipe.claims):
        for key in ("model", "over"):
            arm = getattr(claim, key).partition("/")[0]
            if arm != BASE and arm not in recipe.arms:
                found.append(_problem(layer, ("claims", number, key), f"no arm {arm!r}; {known}, {BASE}"))
    for number, plot in enumerate(recipe.plots):
        named: dict[KeyPath, tuple[str, ...]] = {("arms",): plot.arms or ()}
        named |= {("curves", label): arms for label, arms in (plot.curves or {}).items()}
        for path, arms in named.items():
            places = (place for place, arm in enumerate(arms) if arm not in recipe.arms)
            wrong = [_problem(layer, ("plots", number, *path, at), f"no arm {arms[at]!r}; {known}") for at in places]
            found += wrong
    labels = [arm.label for arm in recipe.arms.values()]
    for name, arm in recipe.arms.items():
        if labels.count(arm.label) > 1:
            found.append(_problem(layer, ("arms", name, "label"), f"{arm.label!r} is the label of two arms"))
    if len(set(recipe.seeds)) < len(recipe.seeds):
        found.append(_problem(layer, ("seeds",), "names a seed twice"))
    for name, arm in recipe.arms.items():
        if arm.checkpoint is not None and (arm.settings or arm.budget):
            found.append(_problem(layer, ("arms", name), "a checkpoint is scored as it is: no settings, no budget"))
        measured = name == recipe.measure or recipe.measure not in recipe.arms
        if name == recipe.measure and arm.budget is not None:
            found.append(_problem(layer, ("arms", name, "budget"), "the measure's budget is 1; leave it out"))
        if not measured and arm.checkpoint is None and recipe.budget_of(name) is None:
            ways = "{by: images}, {by: time, factor: 1}, or {by: free, why: ...}"
            found.append(_problem(layer, ("arms", name), f"names no budget; give it budget: {ways}"))
    return found


def _check_choice(source: Source, config: Config) -> None:
    """The prompts that choose must not be those that are reported."""
    choose, benchmarks = source.recipe.choose, config.evaluation.benchmarks
    if choose is None or choose in benchmarks[1:]:
        return
    reported = f"{benchmarks[0]!r} is what is reported"
    way = "choose by others" if choose == benchmarks[0] else f"add {choose!r} to settings.evaluation.benchmarks"
    raise source.problem(("choose",), f"{reported}; {way}")


def _refuse_unread_captions(source: Source) -> None:
    """A judge that the prompts which choose cannot have would never let anything be chosen."""
    choose, read = source.recipe.choose, [judge for judge in source.recipe.average if judge in READ_CAPTIONS]
    if choose is not None and choose not in HELD_OUT and read:
        message = f"{read[0]!r} reads captions of the data: choose by {' or '.join(HELD_OUT)}"
        raise source.problem(("choose",), message)


def _check_claims(source: Source, configs: Mapping[str, Config]) -> None:
    """Claims, plots and the average name models and judges that there will be."""
    recipe = source.recipe
    whole = (*SET_METRICS, DIVERSITY)  # of a set of pictures: nothing to pair prompt by prompt
    judges = [name for name in scorers_of(configs[recipe.measure].model_dump()) if name not in whole]
    known = ", ".join(judges) or "none"
    for place, judge in enumerate(recipe.average):
        if judge not in judges:
            raise source.problem(("average", place), f"{judge!r} scores no picture here; judges: {known}")
    metrics = (AVERAGE, "denoising", *judges)
    named = [(("claims", n, "on"), claim.on) for n, claim in enumerate(recipe.claims)]
    named += [(("plots", n, "metric"), plot.metric) for n, plot in enumerate(recipe.plots)]
    for path, metric in named:
        if metric not in metrics:
            raise source.problem(path, f"no metric {metric[:40]!r}; metrics: {', '.join(metrics)}")
    for number, claim in enumerate(recipe.claims):
        for key in ("model", "over"):
            arm, _, stage = getattr(claim, key).partition("/")
            models = [*configs[arm].stages, *([CHOSEN] if recipe.choose else [])] if arm in configs else []
            if stage and stage not in models:
                message = f"{arm!r} has no model {stage[:40]!r}; its models: {', '.join(models) or 'one'}"
                raise source.problem(("claims", number, key), message)


def _refuse_shared_keys(source: Source, arm: str) -> None:
    """What all arms share is not an arm's to set; name, seed and root are nobody's."""
    own = source.recipe.arms[arm].settings
    for place, tree in ((("settings",), source.recipe.settings), (("arms", arm, "settings"), own)):
        if "run" in tree:
            raise source.problem((*place, "run"), "name, seed and root of a run are the comparison's; leave it out")
    for key in own.get("data") or ():
        if key != "rows":
            message = "all arms share the real data; an arm may only take fewer data.rows of them"
            raise source.problem(("arms", arm, "settings", "data", key), message)
    if "gate" in {**source.recipe.settings, **own}:
        path = ("settings", "gate") if "gate" in source.recipe.settings else ("arms", arm, "settings", "gate")
        way = "choose: BENCHMARK adds the model that early stopping would keep"
        raise source.problem(path, f"a comparison plays every iteration, or budgets would not be spent; {way}")
    for section, what in (("model", "base model"), ("evaluation", "evaluation"), ("execution", "machine")):
        if section in own:
            message = f"all arms share one {what}; set it in the recipe's own settings"
            raise source.problem(("arms", arm, "settings", section), message)
