"""`reproduce` as a command: what is refused before anything starts, and what came of it in plain words."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from flows.entering import enter
from spin.core.benchmarks import HELD_OUT
from spin.core.config import Config
from spin.core.config_rules import check_run_name
from spin.core.environment import code_version
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.record import Record, read_run_record, recorded_config
from spin.core.reproduction import Outcome, first_beyond
from tasks.showing import console


def reproduce(
    root: Path, run: str, *, into: str | None, sample: int, stage: str | None, tolerance: float, any_code: bool
) -> bool:
    """Rerun a run or a sample of it, and tell; true where nothing differs by more than `tolerance`."""
    folder = RunsRoot(root.absolute()).run(run)
    record = read_run_record(folder)
    config = recorded_config(folder)
    refuse_unfinished(record, config)
    notes = refuse_other_code(record, any_code=any_code)
    if notes and stage is not None and not sample:
        raise ConfigError("other code would make the stages before it again, too", where="--stage", fix="leave it out")
    if sample and into is not None:
        raise ConfigError("a sample leaves nothing behind", where="--into", fix="leave it out")
    if stage is not None:
        refuse_stage(record, config, stage, sample=sample > 0)
    target = _target(run, into)
    enter(root, run)
    from flows.reproduce import check_sample, rerun

    start = time.perf_counter()
    if sample:
        outcomes = check_sample(str(folder.root.path), run, sample, stage)
    else:
        console.print(f"rerun of {run!r} in {folder.root.path / target}", highlight=False)
        outcomes = rerun(str(folder.root.path), run, target, stage)
    print_outcomes(outcomes, tolerance)
    for note in notes:
        console.print(note, highlight=False)
    console.print(f"{len(outcomes)} parts in {time.perf_counter() - start:.0f} s", highlight=False)
    return first_beyond(outcomes, tolerance) is None


def refuse_unfinished(record: Record, config: Config) -> None:
    """Only a whole run can be compared."""
    done = {stage["name"] for stage in record["stages"] if stage.get("digest") and stage.get("evaluation")}
    stopped = record.get("stopped") is not None  # by the gate: after which iteration, it decided
    wanted = ["base", *(name for name in config.stages if name == "sft" or not stopped)]
    missing = [name for name in wanted if name not in done]
    if missing:
        raise ConfigError(f"run {record['run']!r} is not finished: it has no {', '.join(missing)}", fix="finish it")


def refuse_stage(record: Record, config: Config, stage: str, *, sample: bool) -> None:
    """A rerun begins behind the base; a sample needs something of the stage to compare."""
    run, models = record["run"], [str(entry["name"]) for entry in record["stages"]]
    known = ["data", *models] if sample else models[1:]
    if stage not in known:
        raise ConfigError(f"run {run!r} has no stage {stage[:64]!r} to repeat", fix=f"stages: {', '.join(known)}")
    if stage == "data" and not set(HELD_OUT).intersection(config.evaluation.benchmarks):
        problem = f"nothing to compare: run {run!r} was not asked about rows of its data"
        raise ConfigError(problem, where="--stage data", fix=f"name another stage: {', '.join(models)}")


def refuse_other_code(record: Record, *, any_code: bool) -> tuple[str, ...]:
    """Refuse code that may give other numbers, or tell that it is another."""
    here, made = code_version(), record["code_version"]
    if here == made:
        return ()
    told = f"run {record['run']!r} was made by other code: code_version: {made} -> {here}"
    if not any_code:
        raise ConfigError(told, fix="install that code, or go on with --any-code")
    return (f"{told}; what differs may come from that",)


def print_outcomes(outcomes: Sequence[Outcome], tolerance: float) -> None:
    """A line for each part, then where the run first differs, and whether that may be another machine's bits."""
    table = Table("stage", "part", "largest difference", box=SIMPLE_HEAD)
    for outcome in outcomes:
        style = "" if not outcome.apart else "yellow" if outcome.apart <= tolerance else "red"
        table.add_row(outcome.stage, outcome.part, Text(told(outcome), style=style))
    console.print(table)
    console.print(verdict(outcomes, tolerance), highlight=False)
    classes = list(dict.fromkeys(note for outcome in outcomes for note in outcome.notes))
    if classes:
        console.print(
            f"equal bits are promised on one kind of machine only; here differ {', '.join(classes)}."
            " Small differences are then no fault: --tolerance takes them as none.", highlight=False
        )  # fmt: skip


def verdict(outcomes: Sequence[Outcome], tolerance: float) -> str:
    beyond = first_beyond(outcomes, tolerance)
    if beyond is not None:
        return f"differs first at {beyond.stage}, {beyond.part}: {told(beyond)}"
    largest = max(outcomes, key=lambda outcome: outcome.apart)
    if not largest.apart:
        return "reproduced: every part is equal bit for bit"
    return f"reproduced within {tolerance:g}: most at {largest.stage}, {largest.part}: {told(largest)}"


def told(outcome: Outcome) -> str:
    if not outcome.apart:
        return "none"
    size = "another value" if math.isinf(outcome.apart) else f"{outcome.apart:.3g}"
    return f"{size} ({outcome.where})" if outcome.where else size


def _target(run: str, into: str | None) -> str:
    """Name of the rerun's runs root, a folder beside the run."""
    name = f"{run}-reproduced"[-64:] if into is None else into
    try:
        return check_run_name(name)
    except ValueError as error:
        raise ConfigError(str(error), where="--into") from None
