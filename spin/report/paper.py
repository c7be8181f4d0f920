"""The paper's published numbers beside the run's own, where both are of the same prompts and protocol.

`paper_results.csv` holds what arXiv 2402.10210 and its rebuttal print as text; a cell that is empty there is
published as an image only, and stays empty here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from spin.core.comparison import win_rate
from spin.core.layout import StageFolder
from spin.core.store import read_manifest
from spin.report.reading import Run, Stage
from spin.report.scoring import shared_values
from spin.report.subjects import AVERAGE, BEST_OF_N, DATA, Subject

BENCHMARKS: Final = ("pickapic_test", "partiprompts", "hpsv2")
METRICS: Final = {  # ours -> column of the file
    "hpsv2": "hps", "aesthetic": "aesthetic", "image_reward": "image_reward", "pickscore": "pick_score",
    AVERAGE: "average",
}  # fmt: skip
_WIN_RATES: Final = {"win_rate_over_sd15": "sd15", "win_rate_over_dpo_reproduced": "diffusion_dpo_reproduced"}
_MEANS: Final = ("mean_best_of_5", "mean_of_human_winners")
STATISTICS: Final = {
    "mean_best_of_5": "mean", "mean_of_human_winners": "mean of the real images",
    "win_rate_over_sd15": "win rate over SD-1.5, %", "win_rate_over_dpo_reproduced": "win rate over Diffusion-DPO, %",
}  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """One number: the paper's, ours, and ours minus the paper's; None is unknown."""

    paper: float | None
    own: float | None

    @property
    def difference(self) -> float | None:
        return None if self.paper is None or self.own is None else self.own - self.paper


@dataclass(frozen=True)
class PaperLine:
    statistic: str  # a value of STATISTICS
    model: str  # the paper's name
    label: str  # the run's own; empty where it has no such model
    cells: tuple[Beside, ...]  # one for each of METRICS
    source: str

    @property
    def digits(self) -> int:
        """Decimals as the paper prints them."""
        return 1 if self.statistic.endswith("%") else 4


# method of the paper's section 6; the number of prompts is left to the reader, who sees it beside the table
_SETTINGS: Final = {
    "images_per_prompt": 5, "guidance_scale": 7.5, "num_inference_steps": 50, "scheduler": "pndm",
    "hps_version": "v2.0", "max_prompts": None,
}  # fmt: skip


def beside_paper(run: Run, subjects: Sequence[Subject], key: str) -> tuple[PaperLine, ...]:
    """Every line of the paper for an evaluation, `<benchmark>.<protocol>`; empty where it has no such numbers."""
    benchmark, _, protocol = key.rpartition(".")
    if benchmark not in BENCHMARKS or protocol != BEST_OF_N or departures(run, key):
        return ()
    known = {paper_name(run, subject.stage) if subject.stage else DATA: subject for subject in subjects}
    return tuple(_lines(benchmark, known))


def departures(run: Run, key: str) -> tuple[str, ...]:
    """Settings in which an evaluation differs from the paper's, each as `name value`: its numbers do not apply then."""
    evaluations = [e for stage in run.stages for e in (stage.evaluation, *stage.further.values())]
    folder = next((e.folder for e in evaluations if e.key == key and e.folder is not None), None)
    manifest = None if folder is None else read_manifest(folder.set_metrics)
    settings = {} if manifest is None else manifest.identity.get("settings", {})
    return tuple(f"{name} {settings[name]}" for name, value in _SETTINGS.items() if settings.get(name, value) != value)


def paper_name(run: Run, stage: Stage) -> str:
    """How the paper's tables call a stage; the base is taken for SD-1.5."""
    if stage.name == "base":
        return "sd15"
    number = StageFolder(run.folder.path / stage.name).number
    if number is None:
        return stage.name
    objective = ((run.record.get("config") or {}).get("train") or {}).get("objective")
    return "diffusion_dpo_reproduced" if objective == "dpo" else f"spin_iteration_{number}"


@cache
def paper_results() -> tuple[dict[str, str], ...]:
    """Rows of the packaged file."""
    text = (files("spin.report") / "paper_results.csv").read_text("utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def _lines(benchmark: str, known: dict[str, Subject]) -> Iterator[PaperLine]:
    for row in paper_results():
        if row["benchmark"] != benchmark or row["statistic"] not in STATISTICS:
            continue
        own = known.get(row["model"])
        other = known.get(_WIN_RATES.get(row["statistic"], ""))
        cells = [
            Beside(float(row[name]) if row[name] else None, _own(row["statistic"], metric, own, other))
            for metric, name in METRICS.items()
        ]
        label = own.label if own is not None else ""
        yield PaperLine(STATISTICS[row["statistic"]], row["model"], label, tuple(cells), row["source"])


def _own(statistic: str, metric: str, own: Subject | None, other: Subject | None) -> float | None:
    """Mean over prompts, or the share of prompts won in percent."""
    values = own.values.get(metric) if own is not None else None
    if own is None or not values:
        return None
    if statistic in _MEANS:
        return sum(values.values()) / len(values)
    prompts, a, b = shared_values(metric, own, other) if other is not None else ([], [], [])
    return 100 * win_rate(a, b).share.value if prompts else None
