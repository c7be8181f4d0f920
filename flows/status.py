"""Which artifacts of a run stand: shallow by manifest, size and footer; deep by hash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from spin.core.layout import EvaluationFolder, RealCache, RunFolder, RunsRoot
from spin.core.planning import read_plan
from spin.core.record import read_record, recorded_config
from spin.core.store import is_intact, is_whole, stands
from spin.evaluate.shards import artifacts_of
from tasks.showing import console


def print_status(root: Path, run: str, *, verify: bool) -> bool:
    """Print a line per artifact; true where all of them stand."""
    folder = RunsRoot(root.absolute()).run(run)
    table = Table("artifact", "state")
    check = is_intact if verify else is_whole
    bad = 0
    for artifact in expected_artifacts(folder):
        whole = check(artifact)
        bad += not whole
        state = "whole" if whole else ("[red]damaged[/red]" if artifact.exists() else "[yellow]missing[/yellow]")
        table.add_row(str(artifact.relative_to(folder.root.path)), state)
    console.print(table)
    depth = "every byte hashed" if verify else "manifest, size and footer; --verify hashes every byte"
    if bad:
        console.print(f"{bad} not whole ({depth}); the run's own command makes them again", highlight=False)
    else:
        console.print(f"all whole ({depth})", highlight=False)
    return bad == 0


def expected_artifacts(folder: RunFolder) -> Iterator[Path]:
    """What the finished run has, in the order of the pipeline."""
    record, config = read_record(folder), recorded_config(folder)
    labelled = config.train.losers == "labelled" and config.iterations > 0
    yield from (folder.prompts, folder.quarantine)
    if "real" in record:
        real = RealCache(folder.root.path / record["real"])
        yield from real.files(losers=labelled, flips=config.train.flip)
    if config.sft.steps:
        yield from folder.sft.training_artifacts(config.sft.steps, adapter=config.sft.lora_rank is not None)
    for number in range(1, config.iterations + 1):
        stage = folder.iteration(number)
        if not labelled:
            yield from (stage.plan, stage.plan_rows)
        if stands(stage.plan) and stands(stage.plan_rows):
            yield from (stage.samples(shard) for shard in range(read_plan(stage).shards))
        if number > 1 and config.train.opponent == "average":
            yield stage.opponent
        steps, adapter = config.train.at(number).steps, config.train.lora_rank is not None
        yield from stage.training_artifacts(steps, adapter=adapter)
    for stage in (record.get("data"), *record["stages"]):
        for path in ((stage or {}).get("evaluations") or {}).values():
            yield from artifacts_of(EvaluationFolder(folder.root.path / path))
