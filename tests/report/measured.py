"""A runs root in which two models were evaluated on a benchmark under both protocols: real files, known numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from spin.core import schema, store
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.nights import Night, append_nights
from spin.core.plan import identity_hash, prompt_hash

MODELS: Final = {"base": identity_hash("base"), "sft": identity_hash("sft")}
STYLES: Final = ("anime", "photo")
JUDGES: Final = ("hpsv2", "pickscore")
PROMPTS: Final = tuple(f"{style} {number}" for number in range(4) for style in STYLES)
EVALUATION: Final = "0f3a00000001"
DRAWS: Final = 3
SHARD: Final = 4  # prompts
_IMAGES: Final = schema.image_schema(
    [
        pa.field("prompt_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("seed", pa.uint64()),
        pa.field("image", schema.IMAGE_TYPE),
    ],
    ["image"],
)


def score_of(model: str, judge: str, prompt: str, draw: int) -> float:
    """Prompt n gives n; the sft adds 1, and pickscore 20 (its numbers lie there); draw 1 is better by 0.5, 2 worse."""
    level = PROMPTS.index(prompt) + (model == "sft") + 20 * (judge == "pickscore")
    return level + (0.0, 0.5, -0.5)[draw]


def measure(root: Path) -> RunsRoot:
    """Write everything."""
    runs = RunsRoot(root)
    for model, digest in MODELS.items():
        for protocol, draws in (("single", 1), ("best_of_n", DRAWS)):
            _evaluate(runs.evaluation(digest, "hpsv2", protocol, EVALUATION), model, draws)
    append_nights(runs, list(_nights()))
    folder = runs.run("mine")
    folder.path.mkdir()
    folder.record.write_text(json.dumps(_record(runs)))
    return runs


def _evaluate(folder: EvaluationFolder, model: str, draws: int) -> None:
    for shard in range(len(PROMPTS) // SHARD):
        prompts = PROMPTS[shard * SHARD : (shard + 1) * SHARD]
        rows = [
            {
                "prompt_id": prompt_hash(prompt), "prompt": prompt, "category": prompt.split()[0], "challenge": None,
                "seed": 2**63 + 5, "draw": draw, "checkpoint": MODELS[model], "scorer": judge, "version": judge * 4,
                "settings": "{}", "score": score_of(model, judge, prompt, draw),
            }
            for judge in JUDGES for prompt in prompts for draw in range(draws)
        ]  # fmt: skip
        write(folder.scores(shard), schema.SCORES, rows, "scores")
        pictures = [
            {
                "prompt_id": row["prompt_id"],
                "prompt": row["prompt"],
                "seed": 1,
                "image": {"bytes": b"PNG", "path": None},
            }
            for row in rows[: SHARD * draws]
        ]
        write(folder.images(shard), _IMAGES, pictures, "evaluation-images")
        errors = [
            {"prompt_id": prompt_hash(prompt), "draw": draw, "timestep": 100 + 500 * draw, "error": 0.5 - 0.4 * draw}
            for prompt in prompts
            for draw in range(2)
        ]
        write(folder.denoising(shard), schema.DENOISING, errors, "denoising")
    metrics = [{"metric": "frechet", "value": 2.5, "images": len(PROMPTS) * draws}]
    write(folder.set_metrics, schema.SET_METRICS, metrics, "set-metrics")


def write(path: Path, columns: pa.Schema, rows: list[dict[str, Any]], kind: str) -> None:
    """Commit a file that took two seconds."""
    environment = {"images": len(rows), "seconds": 2.0, "device": "cpu Tiny", "dtype": "float32", "host": "here"}
    store.commit(
        path,
        lambda target: schema.write_rows(target, columns, rows),
        kind=kind,
        digest=schema.content_digest,
        environment=lambda: environment,
    )


def _nights() -> Iterator[Night]:
    for number, mean in enumerate((0.5, 0.75)):
        yield Night(
            night=f"2026-11-2{number}", evaluated_at=f"2026-11-2{number}T04:30:00+00:00", run="mine", stage="sft",
            label="SFT", checkpoint=MODELS["sft"], benchmark="hpsv2", protocol="single", metric="hpsv2", mean=mean,
            low=None, high=None, images=8, config=EVALUATION,
        )  # fmt: skip


def _record(runs: RunsRoot) -> dict[str, Any]:
    stages = [
        {
            "name": name, "label": {"base": "base", "sft": "SFT"}[name], "digest": digest, "checkpoint": None,
            "evaluation": runs.evaluation(digest, "hpsv2", "single", EVALUATION).path.relative_to(runs.path).as_posix(),
            "opponent_digest": MODELS["base"] if name == "sft" else None,
        }
        for name, digest in MODELS.items()
    ]  # fmt: skip
    data = {"label": "data", "evaluation": f"evaluations/data-{'d' * 11}/hpsv2.single.{EVALUATION}"}
    return {
        "run": "mine", "config": {}, "config_hash": "9f2c41d0", "seed": 7, "versions": {}, "code_version": "0",
        "data": data, "stages": [*stages, {"name": "iteration-01", "label": "SPIN 1", "digest": None}],
    }  # fmt: skip
