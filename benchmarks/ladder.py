"""Does self-play climb? Base, SFT, SPIN 1..3 and SFT at equal compute over several run seeds, as one table.

    python -m benchmarks.ladder --seeds 0 1 2

About 12 minutes of two cores. Equal compute is counted in FLOPs, one SFT image being 1: a SPIN pair costs
2.67 (four forward and two backward passes against one each), a sampled image 20 forward passes = 6.67. So
three iterations of 120 steps x 32 pairs with 384 images each are 3 x (320 + 80) = 1200 SFT steps of 32.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.environment import prepare_environment
from spin.core.config import Config, load_config
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.record import read_record
from spin.core.schema import read_table
from spin.core.statistics import Estimate, paired_difference

Floats = npt.NDArray[np.float64]
PER_PROMPT = ("alignment", "aesthetic", "attributes")
OF_THE_SET = ("frechet_clean", "frechet", "diversity")
_SCALE = {"attributes": 100.0}


@dataclass(frozen=True)
class ModelScores:
    """One model over all seeds: per-prompt scores (seeds, prompts) and numbers of the set (seeds,)."""

    label: str
    per_prompt: dict[str, Floats]
    of_the_set: dict[str, Floats]

    def mean(self, metric: str) -> float:
        values = self.per_prompt.get(metric, self.of_the_set.get(metric))
        return float("nan") if values is None else float(values.mean())

    def spread(self, metric: str) -> float:
        """Standard deviation over seeds of the mean over prompts."""
        values = self.per_prompt[metric].mean(axis=1) if metric in self.per_prompt else self.of_the_set[metric]
        return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", default="runs")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    root = RunsRoot(Path(options.root).absolute())
    prepare_environment(root.path)
    names = {seed: (f"ladder-{seed}", f"ladder-sft-{seed}") for seed in options.seeds}
    for seed, (spin, sft) in names.items():
        for preset, name in (("miniature", spin), ("sft", sft)):
            _play(_config(preset, name, seed, options.root, options.overrides))
    models = collect(root, list(names.values()))
    print(markdown(models, seeds=len(names)))


def collect(root: RunsRoot, runs: Sequence[tuple[str, str]]) -> list[ModelScores]:
    """Scores of every model of the ladder, rows of seeds stacked."""
    found: dict[str, list[EvaluationFolder]] = {}
    for spin, sft in runs:
        record = read_record(root.run(spin))
        for stage in record["stages"]:
            found.setdefault(stage["label"], []).append(EvaluationFolder(root.path / stage["evaluation"]))
        last = read_record(root.run(sft))["stages"][-1]
        found.setdefault("SFT, equal compute", []).append(EvaluationFolder(root.path / last["evaluation"]))
    return [_scores(label, folders) for label, folders in found.items()]


def markdown(models: Sequence[ModelScores], *, seeds: int) -> str:
    """The ladder, and the paired differences that decide it."""
    metrics = [*PER_PROMPT, *OF_THE_SET]
    lines = [f"| mean of {seeds} seeds (sd over seeds) | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    for model in models:
        cells = (f"{_scaled(m, model.mean(m)):.2f} ({_scaled(m, model.spread(m)):.2f})" for m in metrics)
        lines.append(f"| {model.label} | {' | '.join(cells)} |")
    by_label = {model.label: model for model in models}
    last = [label for label in by_label if label.startswith("SPIN")][-1]
    lines += ["", f"| paired over prompts, 95 % interval | {' | '.join(PER_PROMPT)} |", "|---" * 4 + "|"]
    for ours, theirs in (("SFT", "base"), (last, "base"), (last, "SFT"), (last, "SFT, equal compute")):
        cells = (_interval(m, _difference(by_label[ours], by_label[theirs], m)) for m in PER_PROMPT)
        lines.append(f"| {ours} minus {theirs} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _config(preset: str, name: str, seed: int, root: str, overrides: Sequence[str]) -> Config:
    return load_config(preset, overrides=[f"run.name={name}", f"run.seed={seed}", f"run.root={root}", *overrides])


def _play(config: Config) -> None:
    from flows.playing import play  # Prefect reads its settings when it is imported

    play(config, "")


def _scores(label: str, folders: Sequence[EvaluationFolder]) -> ModelScores:
    per_prompt: dict[str, list[list[float]]] = {}
    of_the_set: dict[str, list[float]] = {}
    for folder in folders:
        shards = sorted(folder.scores(0).parent.glob("shard-*.parquet"))
        rows = [row for shard in shards for row in read_table(shard).to_pylist() if row["draw"] == 0]
        spread = [row["score"] for row in rows if row["scorer"] == "diversity"]  # of the prompts with several pictures
        of_the_set.setdefault("diversity", []).append(float(np.mean(spread)))
        for metric in PER_PROMPT:
            per_prompt.setdefault(metric, []).append([row["score"] for row in rows if row["scorer"] == metric])
        for row in read_table(folder.set_metrics).to_pylist():
            of_the_set.setdefault(row["metric"], []).append(row["value"])
    return ModelScores(
        label,
        {metric: np.array(values) for metric, values in per_prompt.items()},
        {metric: np.array(values) for metric, values in of_the_set.items()},
    )


def _difference(ours: ModelScores, theirs: ModelScores, metric: str) -> Estimate:
    return paired_difference(ours.per_prompt[metric].mean(axis=0), theirs.per_prompt[metric].mean(axis=0), seed=0)


def _interval(metric: str, found: Estimate) -> str:
    value, low, high = (_scaled(metric, x) for x in (found.value, found.low, found.high))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _scaled(metric: str, value: float) -> float:
    return _SCALE.get(metric, 1.0) * value


if __name__ == "__main__":
    main()
