"""A comparison's two files, written by hand."""

from __future__ import annotations

from pathlib import Path

from spin.core.recipe import Recipe
from spin.report.results.facts import Facts, Row, RunFacts, StageFacts, write_facts, write_scores

RECIPE = {
    "name": "mine",
    "question": "Does it?",
    "seeds": [0, 1],
    "average": ["alignment", "aesthetic"],
    "measure": "sft",
    "arms": {
        "sft": {"label": "SFT", "settings": {"iterations": 0}},
        "spin": {"label": "SPIN", "budget": {"by": "time"}, "rows": "all"},
    },
    "claims": [
        {"says": "SPIN is above SFT.", "model": "spin", "over": "sft"},
        {"says": "The first iteration is above the base.", "model": "spin/iteration-01", "over": "base"},
        {
            "says": "SPIN aligns no worse.",
            "model": "spin",
            "over": "sft",
            "on": "alignment",
            "wants": "not below",
            "margin": 0.5,
        },
        {"says": "Another arm is above SFT.", "model": "sft", "over": "spin", "on": "frechet"},
    ],
    "plots": [
        {"name": "progress", "title": "Over training images", "kind": "progress"},
        {"name": "bars", "title": "Side by side", "metric": "attributes"},
        {"name": "cost", "title": "Over device time", "kind": "cost", "arms": ["spin"]},
    ],
}
ROWS = (
    Row("base", "base", "base", "base", "", last=True),
    Row("sft/sft", "sft", "sft", "SFT", "the measure of the budgets", last=True),
    Row("spin/iteration-01", "spin", "iteration-01", "SPIN, iteration 1", "1 x device time", last=False),
    Row("spin/iteration-02", "spin", "iteration-02", "SPIN, iteration 2", "1 x device time", last=True),
)
CHOSEN = Row("spin/chosen", "spin", "chosen", "SPIN, chosen on validation", "1 x device time", last=False)
# row -> metric -> seed -> values of prompts a, b, c, d
Values = dict[str, dict[str, dict[int, list[float]]]]
SCORES: Values = {
    "base": {
        "alignment": {0: [1, 2, 3, 4], 1: [1, 2, 3, 4]},
        "aesthetic": {0: [10, 20, 30, 40], 1: [10, 20, 30, 40]},
        "attributes": {0: [0, 0, 1, 1], 1: [0, 0, 1, 1]},
    },
    "sft/sft": {
        "alignment": {0: [3, 4, 5, 6], 1: [3, 4, 5, 6]},
        "aesthetic": {0: [20, 30, 40, 50], 1: [20, 30, 40, 50]},
        "attributes": {0: [1, 1, 1, 1], 1: [1, 1, 1, 1]},
    },
    "spin/iteration-01": {
        "alignment": {0: [2, 3, 4, 5], 1: [2, 3, 4, 5]},
        "aesthetic": {0: [21, 31, 41, 51], 1: [21, 31, 41, 51]},
        "attributes": {0: [1, 0, 1, 1], 1: [0, 0, 1, 1]},
    },
    "spin/iteration-02": {
        "alignment": {0: [3, 4, 5, 7], 1: [3, 4, 5, 5]},
        "aesthetic": {0: [40, 50, 60, 70], 1: [30, 40, 50, 60]},
        "attributes": {0: [1, 1, 1, 1], 1: [1, 1, 1, 0]},
    },
}


def stage(name: str, *, images: int, sampled: int = 0, train: float = 1.0, sample: float = 0.0) -> StageFacts:
    return StageFacts(name, name, images, sampled, train, sample, 50 * 2**20, {"frechet": 3.0}, {"accuracy": 0.9})


def facts(**changed: object) -> Facts:
    planned = {"images": 64.0, "sampled": 0.0, "time": 64.0}
    runs = [
        run
        for seed in (0, 1)
        for run in (
            RunFacts("sft", seed, f"mine.sft.{seed}", planned, {}, (stage("sft", images=64, train=2.0),)),
            RunFacts(
                "spin", seed, f"mine.spin.{seed}", {**planned, "time": 96.0}, {},
                (
                    stage("sft", images=16),
                    stage("iteration-01", images=24, sampled=8, sample=0.5),
                    stage("iteration-02", images=24, sampled=8, sample=0.5),
                ),
                f"iteration-0{seed + 1}",
            ),
        )
    ]  # fmt: skip
    values: dict[str, object] = {
        "recipe": Recipe.model_validate(RECIPE), "overrides": (), "benchmark": "test.single",
        "evaluation": {"guidance_scale": 3.0, "num_inference_steps": 20, "scheduler": "dpmsolver++"},
        "rates": {"pair": 2.0, "sampled_image": 6.0}, "rates_from": "recipe", "train_rows": 384, "prompts": 4,
        "code_version": "0.1.0+abc", "versions": {"torch": "2"}, "machine": "a CPU", "base_digest": "d" * 64,
        "set_metrics": {"base": {"frechet": 9.0}}, "rows": ROWS, "runs": tuple(runs),
    }  # fmt: skip
    return Facts(**{**values, **changed})  # type: ignore[arg-type]


def write(folder: Path, scores: Values = SCORES, **changed: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_facts(folder, facts(**changed))
    rows = [
        (row, seed, prompt, metric, float(value))
        for row, metrics in scores.items()
        for metric, seeds in metrics.items()
        for seed, values in seeds.items()
        for prompt, value in zip("abcd", values, strict=True)
    ]
    write_scores(folder, rows)
    return folder
