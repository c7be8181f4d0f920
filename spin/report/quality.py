"""What an approximation of sampling costs: distance to a reference of many steps, and paired scores of the judges.

All three drawings ask the same prompts from the same noise with the same weights, so that every prompt is its own
control; prompts are the unit of resampling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from spin.core.draft import replace_file
from spin.core.errors import DataError
from spin.core.layout import EvaluationFolder
from spin.core.layout_beside import QualityFolder
from spin.core.schema import content_digest, read_table, read_tensors, write_rows
from spin.core.statistics import (
    Estimate,
    Floats,
    mean_interval,
    paired_difference,
    percentile_interval,
    resampled_means,
)
from spin.core.store import commit, verify

VARIANTS: Final = ("default", "approximated", "reference")
_SEED: Final = 0  # of the resampling
_RESAMPLES: Final = 10_000
_LEVEL: Final = 0.95
_DISTANCES: Final = pa.schema([("prompt_id", pa.string()), ("default", pa.float64()), ("approximated", pa.float64())])
_ByPrompt = Mapping[str, float]


@dataclass(frozen=True)
class Scored:
    """One judge on the same prompts: means, and the approximation minus the default, paired."""

    judge: str
    means: Mapping[str, float]  # by variant
    difference: Estimate


@dataclass(frozen=True)
class Quality:
    """Distances are root mean squares over a picture's latents, in the model's scaled space, means over pictures."""

    prompts: int
    default: Estimate  # distance of the default to the reference
    approximated: Estimate
    ratio: Estimate  # of the two means, approximated by default
    between: Estimate  # distance of the approximation to the default
    judges: tuple[Scored, ...]


def measure_quality(folders: Mapping[str, EvaluationFolder]) -> tuple[Quality, dict[str, list[Any]]]:
    """Compare three drawings.

    Args:
        folders: by variant, evaluations with latents of the same prompts.

    Returns:
        The numbers, and the columns of the distances.
    """
    latents = {name: _latents(folders[name]) for name in VARIANTS}
    shared = [prompt for prompt in latents["reference"] if all(prompt in found for found in latents.values())]
    if not shared:
        where = str(folders["reference"].path)
        raise DataError("no prompt has finite latents in all three drawings", where=where, fix="look at the pictures")

    def apart(one: str, other: str) -> Floats:
        return np.array([distance(latents[one][prompt], latents[other][prompt]) for prompt in shared])

    default, approximated = apart("default", "reference"), apart("approximated", "reference")
    quality = Quality(
        prompts=len(shared),
        default=mean_interval(default, seed=_SEED),
        approximated=mean_interval(approximated, seed=_SEED),
        ratio=ratio_of_means(approximated, default),
        between=mean_interval(apart("approximated", "default"), seed=_SEED),
        judges=_judged({name: _scores(folders[name]) for name in VARIANTS}),
    )
    return quality, {"prompt_id": shared, "default": default.tolist(), "approximated": approximated.tolist()}


def distance(one: Floats, other: Floats) -> float:
    """Root mean square of the difference of two pictures' latents; of (0, 0) and (3, 4): sqrt(25 / 2) = 3.54."""
    return float(np.sqrt(np.mean(np.square(np.asarray(one, float) - np.asarray(other, float)))))


def ratio_of_means(above: Floats, below: Floats) -> Estimate:
    """Mean by mean over the same prompts, percentile bootstrap over prompts; both are resampled together.

    Where all of `below` are 0 the ratio is infinite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        means = resampled_means(np.column_stack([above, below]), seed=_SEED, resamples=_RESAMPLES)
        low, high = percentile_interval(means[:, 0] / means[:, 1], level=_LEVEL)
        return Estimate(float(np.mean(above) / np.mean(below)), float(low), float(high))


def write_quality(folder: QualityFolder, facts: Mapping[str, Any], columns: Mapping[str, list[Any]]) -> None:
    """Commit the distances, and put the numbers beside them; the same numbers again leave all as it is."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    identity = {"drawn": facts["drawn"]}
    commit(
        folder.distances, lambda path: write_rows(path, _DISTANCES, rows), kind="quality", digest=content_digest,
        identity=identity,
    )  # fmt: skip
    text = (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()
    if not folder.table.exists() or folder.table.read_bytes() != text:
        replace_file(folder.table, text)


def _latents(folder: EvaluationFolder) -> dict[str, Floats]:
    """Of each prompt's first picture, those that are finite."""
    found: dict[str, Floats] = {}
    for path in _shards(folder.latents(0).parent):
        table = read_table(path)
        values = read_tensors(table, "latent")
        names = zip(table["prompt_id"].to_pylist(), table["draw"].to_pylist(), values, strict=True)
        found |= {prompt: value for prompt, draw, value in names if draw == 0 and np.isfinite(value).all()}
    return found


def _scores(folder: EvaluationFolder) -> dict[str, dict[str, float]]:
    """By judge and prompt."""
    found: dict[str, dict[str, float]] = {}
    for path in _shards(folder.scores(0).parent):
        for row in read_table(path, ["prompt_id", "draw", "scorer", "score"]).to_pylist():
            if row["draw"] == 0:
                found.setdefault(row["scorer"], {})[row["prompt_id"]] = row["score"]
    return found


def _shards(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("shard-*.parquet"))
    for path in paths:
        verify(path)
    return paths


def _judged(scores: Mapping[str, Mapping[str, _ByPrompt]]) -> tuple[Scored, ...]:
    """Every judge that scored all three, on the prompts that it scored in each."""
    found = []
    for judge, default in scores["default"].items():
        others = [scores[name].get(judge, {}) for name in VARIANTS]
        prompts = [prompt for prompt in default if all(prompt in other for other in others)]
        if not prompts:
            continue
        values = {name: [other[prompt] for prompt in prompts] for name, other in zip(VARIANTS, others, strict=True)}
        difference = paired_difference(values["approximated"], values["default"], seed=_SEED)
        found.append(Scored(judge, {name: float(np.mean(each)) for name, each in values.items()}, difference))
    return tuple(found)
