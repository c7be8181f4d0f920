"""Pictures -> one score per picture and judge, and numbers of the whole set; a few batches in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from spin.core.config_rules import DIVERSITY, SET_METRICS
from spin.core.progress import Progress, silent
from spin.core.rejecting import NOT_FINITE, Rejected
from spin.core.statistics import frechet_distance_of_features
from spin.diffusion.pictures import encode_png
from spin.evaluate.asked import Picture
from spin.evaluate.judging import FEATURES, embedder, panel_of
from spin.evaluate.panel import Panel
from spin.evaluate.request import EvaluateRequest
from spin.evaluate.scorer import Judgement, Scorer
from spin.evaluate.shards import scorer_versions
from spin.miniature.dataset import clean_reference

Features = npt.NDArray[np.float64]
_SMALLEST_SET: Final = 2  # one picture has no covariance


@dataclass(frozen=True)
class Scored:
    """Rows of SCORES and of QUARANTINE, and the features that the set is measured in, (N, 64), of first pictures."""

    rows: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    features: Features


@dataclass(frozen=True)
class _Judged:
    picture: Picture
    judgements: Mapping[str, Judgement]


def score_pictures(
    request: EvaluateRequest, pictures: Sequence[Picture], drawn: Sequence[bytes | None], progress: Progress = silent
) -> Scored:
    """Score each picture under its prompt; one that cannot be judged is set aside with its reason."""
    panel = panel_of(request)
    rejected = [
        _rejection(picture, Rejected(NOT_FINITE, "the model gave NaN or infinity"))
        for picture, data in zip(pictures, drawn, strict=True)
        if data is None
    ]
    whole = [(picture, data) for picture, data in zip(pictures, drawn, strict=True) if data is not None]
    judged = []
    for i, judgements, refusal in panel.judge([data for _, data in whole], [p.asked.prompt for p, _ in whole]):
        if (i + 1) % request.batch_size == 0 or i + 1 == len(whole):
            progress(len(pictures) - len(whole) + i + 1, len(pictures), "scored")
        refusal = refusal or _not_finite(judgements)
        if refusal is None:
            judged.append(_Judged(whole[i][0], judgements))
        else:
            rejected.append(_rejection(whole[i][0], refusal))
    rows = [row for judge in panel.judges if judge.name in request.scorers for row in _rows(request, judge, judged)]
    rows += _diversity(request, judged)
    firsts = [found.judgements for found in judged if found.picture.draw == 0]
    return Scored(rows, rejected, _features(firsts) if set(request.scorers) & set(SET_METRICS) else np.empty((0, 0)))


def features_of(request: EvaluateRequest, drawn: Sequence[bytes]) -> Features:
    """Features of pictures that are not scored, (N, 64)."""
    panel = panel_of(request)
    only = Panel([judge for judge in panel.judges if judge.name == FEATURES], panel.batch_size)
    answers = only.judge(drawn, [""] * len(drawn))
    return _features([judgements for _, judgements, refusal in answers if refusal is None])


def set_metrics(
    request: EvaluateRequest, own: Features, prompts: Sequence[str], *, real: Callable[[], Features] | None
) -> Iterator[dict[str, Any]]:
    """Rows of SET_METRICS: each against the real held-out images, or against the clean world.

    Args:
        own: features of the set, (N, 64), a row for each of `prompts`.
        real: gives the features of the real images; None where `own` are theirs, or there are none.
    """
    if len(own) < _SMALLEST_SET:
        return
    measures: dict[str, Callable[[], float]] = {
        "frechet_clean": lambda: frechet_distance_of_features(own, _clean_features(request, prompts)),
    }
    if real is not None:  # their distance to themselves is 0 by definition
        measures["frechet"] = lambda: frechet_distance_of_features(own, real())
    for name in request.scorers:
        if name in measures:
            yield {"metric": name, "value": measures[name](), "images": len(own)}


def _not_finite(judgements: Mapping[str, Judgement]) -> Rejected | None:
    """A score that is no number would leave the statistics without a word."""
    judge = next((name for name, found in judgements.items() if not found.scores.isfinite()), None)
    return None if judge is None else Rejected(NOT_FINITE, f"{judge} gives no number")


def _rows(request: EvaluateRequest, judge: Scorer, judged: Sequence[_Judged]) -> Iterator[dict[str, Any]]:
    settings = {**judge.settings, "dtype": request.scorer_dtype if request.judges == "published" else "float32"}
    for found in judged:
        yield {
            **_identity(request, found.picture),
            "scorer": judge.name,
            "version": judge.version,
            "settings": json.dumps(settings, sort_keys=True),
            "score": float(found.judgements[judge.name].scores),
        }


def _diversity(request: EvaluateRequest, judged: Sequence[_Judged]) -> Iterator[dict[str, Any]]:
    """One row for each prompt with several pictures: the mean of 1 - cos over their pairs."""
    by = embedder(request)
    for _, group in groupby(judged, key=lambda found: found.picture.asked.prompt_id):
        members = list(group)
        if by is None or len(members) < 2:
            continue
        vectors = np.stack([_vector(found.judgements[by]) for found in members])
        yield {
            **_identity(request, members[0].picture),
            "draw": 0,
            "scorer": DIVERSITY,
            "version": scorer_versions(request).get(by, ""),
            "settings": json.dumps({"vectors": by, "images": len(members)}, sort_keys=True),
            "score": float(pdist(vectors, "cosine").mean()),
        }


def _identity(request: EvaluateRequest, picture: Picture) -> dict[str, Any]:
    asked = picture.asked
    return {
        "prompt_id": asked.prompt_id, "prompt": asked.prompt, "category": asked.category,
        "challenge": asked.challenge, "seed": asked.seed, "draw": picture.draw, "checkpoint": request.subject_digest,
    }  # fmt: skip


def _rejection(picture: Picture, rejected: Rejected) -> dict[str, Any]:
    origin = f"{picture.asked.prompt_id} picture {picture.draw}"
    return {"origin": origin, "reason": rejected.reason, "detail": rejected.detail}


def _features(judgements: Sequence[Mapping[str, Judgement]]) -> Features:
    found = [_vector(judgement[FEATURES]) for judgement in judgements if FEATURES in judgement]
    return np.stack(found) if found else np.empty((0, 0))


def _vector(judgement: Judgement) -> Features:
    assert judgement.embeddings is not None
    return judgement.embeddings.double().numpy()


def _clean_features(request: EvaluateRequest, prompts: Sequence[str]) -> Features:
    """Features of faultless pictures of the captions."""
    return features_of(request, [encode_png(picture) for picture in clean_reference(prompts)])
