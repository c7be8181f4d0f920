"""What a run will do, task by task in the order of its flow, with counts and what each waits for: from the config."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

from spin.core.benchmarks import HELD_OUT
from spin.core.budgets import sampled_images
from spin.core.config import Config
from spin.core.layout import iteration_name
from spin.core.plan import shard_count

Unit = Literal["", "prepared", "sampled", "sft", "pair", "evaluated"]


@dataclass(frozen=True)
class Task:
    """One task of the flow, or all that differ in a shard's number alone."""

    stage: str  # data, base, sft, iteration-01, ..., run
    kind: str  # prepare, plan, sample, train, evaluate, gate, report
    after: str  # the task that it waits for, as "stage kind"; empty for the first
    work: str  # in words
    unit: Unit = ""
    count: int = 0  # of its unit

    @property
    def name(self) -> str:
        return f"{self.stage} {self.kind}"


@dataclass(frozen=True)
class Rows:
    """How much data there is, as far as anybody knows before it is prepared."""

    train: int | None  # rows of the train split
    all: int | None  # with those held out
    prompts: int | None  # different captions of all rows
    told: str  # where these numbers come from, for people
    source: int | None = None  # good rows of the source, where more are known than are used


def encoded_pictures(config: Config, rows: Rows) -> int | None:
    """Real pictures that go through the VAE: winners, labelled losers, and the train split's mirrored ones."""
    if rows.all is None:
        return None
    train = rows.train or 0
    losers = train if config.train.losers == "labelled" and config.iterations > 0 else 0
    return rows.all + losers + (train + losers) * config.train.flip


def looked_at_pictures(config: Config, rows: Rows) -> int:
    """Real pictures that a safety checker sees: every one of the source, with its loser where the data has one."""
    if config.safety.real == "off" or rows.all is None:
        return 0
    losers = config.data.pairs or config.data.loser_column is not None
    return max(rows.source or 0, rows.all) * (1 + losers)


def outline(config: Config, *, rows: Rows, pictures: int) -> list[Task]:
    """Every task of a run.

    Args:
        pictures: that an evaluation of one model draws.
    """
    return list(_tasks(config, rows, pictures))


def _tasks(config: Config, rows: Rows, pictures: int) -> Iterator[Task]:
    yield _prepared(config, rows)
    last = "data prepare"
    if set(benchmarks_of(config)) & set(HELD_OUT):
        yield Task("data", "evaluate", last, "held-out pictures judged as they are")
        last = "data evaluate"
    last = yield from _evaluated(config, "base", last, pictures)
    if config.sft.steps:
        sft = config.sft
        yield _trained("sft", last, sft.steps, sft.batch_size, "images", "sft", 1)
        last = yield from _evaluated(config, "sft", "sft train", pictures)
    for number in range(1, config.iterations + 1):
        last = yield from _iteration(config, number, last, rows, pictures)
    yield Task("run", "report", last, "tables, plots, pages")


def _prepared(config: Config, rows: Rows) -> Task:
    count, mirrored = encoded_pictures(config, rows), ", train pictures also mirrored" * config.train.flip
    named = "the data's pictures" if count is None else f"{count:,} pictures"
    return Task("data", "prepare", "", f"{named} and their captions, encoded once{mirrored}", "prepared", count or 0)


def _iteration(config: Config, number: int, last: str, rows: Rows, pictures: int) -> Generator[Task, None, str]:
    """Gives the name of its last task."""
    stage, train = iteration_name(number), config.train
    steps = train.at(number).steps
    if train.losers == "generated":
        images = sampled_images(config, steps * train.batch_size, rows.train)
        of = "" if rows.train is None else f" of {rows.train:,} rows" + f" x {config.sampling.draws}" * (
            config.sampling.draws > 1
        )  # fmt: skip
        yield Task(stage, "plan", last, f"{images:,} images{of}")
        shards = shard_count(images, config.sampling.shard_size)
        yield Task(stage, "sample", f"{stage} plan", f"{images:,} images in {shards:,} shards", "sampled", images)
        last = f"{stage} sample"
    yield _trained(stage, last, steps, train.batch_size, "pairs", "pair", train.timesteps_per_pair)
    last = yield from _evaluated(config, stage, f"{stage} train", pictures)
    if config.gate.mode != "off":
        asked = "rules decide" if config.gate.mode == "rules" else f"a person has {config.gate.limit_hours:g} hours"
        yield Task(stage, "gate", last, asked)
        last = f"{stage} gate"
    return last


def _trained(stage: str, after: str, steps: int, batch: int, things: str, unit: Unit, timesteps: int) -> Task:
    each = "" if timesteps == 1 else f", each at {timesteps} time steps"
    return Task(stage, "train", after, f"{steps:,} steps x {batch:,} {things}{each}", unit, steps * batch * timesteps)


def _evaluated(config: Config, stage: str, after: str, pictures: int) -> Generator[Task, None, str]:
    """Gives the name of its task."""
    asked = [name.partition("=")[0] for name in benchmarks_of(config)]
    yield Task(stage, "evaluate", after, f"{pictures:,} pictures: {', '.join(asked)}", "evaluated", pictures)
    return f"{stage} evaluate"


def benchmarks_of(config: Config) -> tuple[str, ...]:
    """What every model of a run is asked: the config's, and what the gate decides by."""
    gate, own = config.gate, config.evaluation.benchmarks
    return own if gate.mode == "off" or gate.benchmark in own else (*own, gate.benchmark)
