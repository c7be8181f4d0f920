"""Pictures -> one score per picture and judge, and numbers of the whole set; one batch in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from spin.core.plan import padded_batches
from spin.core.statistics import frechet_distance_of_features, pairwise_diversity
from spin.diffusion.pictures import decode_image
from spin.evaluate.held_out import HeldOutRow
from spin.evaluate.scorers import Scorer, features
from spin.miniature.dataset import clean_reference

Features = npt.NDArray[np.float64]
_SMALLEST_SET: Final = 2  # one picture has no covariance and no distance to another


@dataclass(frozen=True)
class Scored:
    """Rows of SCORES, and the features that the set is measured in, (N, 64)."""

    rows: list[dict[str, Any]]
    features: Features


def score_pictures(
    pictures: Sequence[bytes], rows: Sequence[HeldOutRow], judges: Sequence[Scorer], *, batch_size: int
) -> Scored:
    """Score each picture under its row's caption, in batches of one fixed shape."""
    scores: dict[str, list[float]] = {judge.name: [] for judge in judges}
    found = []
    for batch in padded_batches(range(len(rows)), batch_size):
        images, prompts = np.stack([decode_image(pictures[i]) for i in batch]), [rows[i].prompt for i in batch]
        found.append(features(images))
        for judge in judges:
            scores[judge.name] += judge.score(images, prompts).tolist()
    table = [
        {"prompt_id": row.prompt_id, "prompt": row.prompt, "seed": row.seed, "scorer": name, "score": value}
        for name, values in scores.items()
        for row, value in zip(rows, values, strict=False)  # behind the rows lies padding
    ]
    return Scored(table, np.concatenate(found)[: len(rows)])


def set_metrics(
    own: Features,
    prompts: Sequence[str],
    names: Sequence[str],
    *,
    real: Callable[[], Features] | None,
    batch_size: int,
) -> Iterator[dict[str, Any]]:
    """Rows of SET_METRICS: each against the real held-out images, or against the clean world, or on its own.

    Args:
        own: features of the set, (N, 64), a row for each of `prompts`.
        names: metrics to take; names of judges of single images are passed over.
        real: gives the features of the real images; None where `own` are theirs.
    """
    if len(own) < _SMALLEST_SET:
        return
    measures: dict[str, Callable[[], float]] = {
        "frechet_clean": lambda: frechet_distance_of_features(own, _clean_features(prompts, batch_size)),
        "diversity": lambda: pairwise_diversity(own),
    }
    if real is not None:  # their distance to themselves is 0 by definition
        measures["frechet"] = lambda: frechet_distance_of_features(own, real())
    for name in names:
        if name in measures:
            yield {"metric": name, "value": measures[name](), "images": len(own)}


def _clean_features(prompts: Sequence[str], batch_size: int) -> Features:
    """Features of faultless pictures of the captions."""
    pictures = clean_reference(prompts)
    found = [features(pictures[batch]) for batch in padded_batches(range(len(pictures)), batch_size)]
    return np.concatenate(found)[: len(pictures)]
