"""How far a run is: which of its stages are done, and where the next one stands."""

from __future__ import annotations

from dataclasses import dataclass

from spin.core.errors import ArtifactError
from spin.core.labels import iteration_label
from spin.core.layout import StageFolder, iteration_name
from spin.core.planning import read_plan
from spin.report.reading import Run, Stage

DONE = "done"


@dataclass(frozen=True)
class StageState:
    name: str
    label: str
    state: str  # "done", or how far it is

    @property
    def done(self) -> bool:
        return self.state == DONE


def stage_states(run: Run) -> tuple[StageState, ...]:
    """Every stage of the config in order: the base, SFT where it has steps, the iterations."""
    config = run.record.get("config") or {}
    supervised = [("sft", "SFT")] if (config.get("sft") or {}).get("steps") else []
    numbers = range(1, _iterations(run) + 1)
    labelled = (config.get("train") or {}).get("losers") == "labelled"
    played = [
        (iteration_name(number), iteration_label(number, labelled=labelled, iterations=len(numbers)))
        for number in numbers
    ]
    asked = dict([("base", "base"), *supervised, *played])
    begun = {stage.name: stage for stage in run.stages}
    labels = asked | {name: stage.label for name, stage in begun.items()}
    return tuple(
        StageState(name, label, _state(run, name, begun.get(name)))
        for name, label in sorted(labels.items(), key=lambda item: (item[0].startswith("iteration-"), item[0]))
    )


def is_scored(stage: Stage) -> bool:
    return bool(stage.evaluation.scores or stage.evaluation.set_metrics or stage.evaluation.denoising)


def unfinished(run: Run) -> str:
    """Empty for a finished run, else how far it is."""
    scored = sum(1 for stage in run.stages if stage.plays and is_scored(stage))
    asked = _iterations(run)
    return "" if scored >= asked else f"This run is not finished: {scored} of {asked} iterations have been scored."


def _iterations(run: Run) -> int:
    asked = (run.record.get("config") or {}).get("iterations")
    return asked if isinstance(asked, int) else 0


def _state(run: Run, name: str, stage: Stage | None) -> str:
    if stage is not None and is_scored(stage):
        return DONE
    if stage is not None and (stage.training is not None or name == "base"):
        return "not scored yet"
    return _work_on_disk(run, name) or "not begun"


def _work_on_disk(run: Run, name: str) -> str:
    """What the files tell of a stage that run.json does not hold yet."""
    if name == "base":
        return ""
    folder = StageFolder(run.folder.path / name)
    states = sorted(path.name.split(".")[0] for path in folder.states.glob("step-*.manifest.json"))
    if states:
        return f"in training, last state at step {int(states[-1].removeprefix('step-'))}"
    if not folder.plan.exists():
        return ""
    try:
        planned = read_plan(folder).shards
    except ArtifactError:
        return "plan damaged"
    sampled = len(list(folder.samples(0).parent.glob("shard-*.manifest.json")))
    return f"{sampled} of {planned} shards sampled"
