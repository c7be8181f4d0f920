"""Where the numbers come from: seconds of every stage, the chain of digests, the protocol, the config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from spin.report.reading import Run, Training

_KINDS: Final = (
    ("prepar", "preparation"), ("sampl", "sampling"), ("train", "training"), ("sft", "training"),
    ("evaluat", "evaluation"), ("scor", "evaluation"), ("report", "report"),
)  # fmt: skip
KINDS: Final = ("preparation", "sampling", "training", "evaluation", "report", "other")


@dataclass(frozen=True)
class Spent:
    stage: str
    kind: str
    seconds: float
    images: int | None

    @property
    def rate(self) -> float | None:
        """Images per second."""
        return self.images / self.seconds if self.images and self.seconds > 0 else None


@dataclass(frozen=True)
class Link:
    """One step of the lineage: what it is, its digest, and what it was made from."""

    label: str
    digest: str
    made_from: str
    note: str


def time_spent(run: Run) -> list[Spent]:
    """Seconds and images of every stage and task, in the order of the run."""
    labels = {stage.name: stage.label for stage in run.stages}
    recorded = run.record.get("stage_seconds")
    rows = recorded if recorded else _from_stages(run)
    return [
        Spent(
            labels.get(str(r["stage"]), str(r["stage"])),
            kind_of(str(r["task"])),
            float(r["seconds"] or 0),
            r.get("images"),
        )
        for r in rows
    ]


def time_shares(spent: list[Spent]) -> list[tuple[str, float, float]]:
    """(kind, seconds, share of the total) for every kind that took time."""
    total = sum(row.seconds for row in spent)
    sums = {kind: sum(row.seconds for row in spent if row.kind == kind) for kind in KINDS}
    return [(kind, seconds, seconds / total) for kind, seconds in sums.items() if seconds > 0]


def kind_of(task: str) -> str:
    """preparation, sampling, training, evaluation, report or other, from a task's name."""
    return next((kind for part, kind in _KINDS if part in task.lower()), "other")


def lineage(run: Run) -> list[Link]:
    record = run.record
    links = []
    if record.get("data_digest"):
        counts = ", ".join(f"{count} {split}" for split, count in (record.get("prompts") or {}).items())
        links.append(Link("data", str(record["data_digest"]), "", counts))
    for stage in run.stages:
        previous = run.previous(stage)
        parents = [previous.label] if previous else []
        if previous and links and links[0].label == "data":
            parents.append("data")
        links.append(Link(stage.label, stage.digest, " + ".join(parents), _training_note(stage.training)))
    return links


def protocol(run: Run) -> str:
    """How the pictures that were scored came about, from the config."""
    chosen = (run.record.get("config") or {}).get("evaluation") or {}
    benchmark, _, kept = run.key.rpartition(".")
    parts = [
        f"{chosen['split']} split" if "split" in chosen else benchmark,
        f"best of {chosen.get('images_per_prompt', 'several')} pictures" if kept == "best_of_n" else "",
        f"guidance {chosen['guidance_scale']}" if "guidance_scale" in chosen else "",
        f"{chosen['num_inference_steps']} steps" if "num_inference_steps" in chosen else "",
        f"seed {chosen['seed']}" if "seed" in chosen else "",
    ]
    return ", ".join(part for part in parts if part)


def prompt_count(run: Run) -> int:
    """Held-out prompts that the scores are of."""
    return max((len(stage.evaluation.prompts) for stage in run.stages), default=0)


def config_lines(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value) of every setting."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from config_lines(value, f"{prefix}{key}.")
        else:
            yield (
                f"{prefix}{key}",
                "null" if value is None else str(value).lower() if value in (True, False) else str(value),
            )


def _training_note(training: Training | None) -> str:
    if training is None or training.steps is None:
        return ""
    return f"{training.steps} steps" + (f", {training.pairs} pairs" if training.pairs else "")


def _from_stages(run: Run) -> list[dict[str, Any]]:
    rows = []
    for raw in run.record.get("stages") or []:
        samples, training = raw.get("samples"), raw.get("training")
        if samples:
            rows.append({"stage": raw["name"], "task": "sample", **samples})
        if training:
            row = {
                "stage": raw["name"],
                "task": "train",
                "seconds": training.get("seconds"),
                "images": training.get("pairs"),
            }
            rows.append(row)
    return rows
