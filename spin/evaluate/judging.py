"""The judges that a request names, loaded once for the shards that come one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from spin.core.config_rules import DIVERSITY, JUDGES, SET_METRICS
from spin.diffusion.checkpoint import DTYPES
from spin.evaluate.miniature import Alignment, AttributeCheck, MiniatureAesthetic
from spin.evaluate.panel import Panel
from spin.evaluate.request import EvaluateRequest
from spin.evaluate.scorer import Options, Scorer
from spin.evaluate.shards import scorer_versions

# Whose unit vectors tell how far pictures of one prompt are apart: the plain CLIP before those tuned to preferences.
_EMBEDDERS: Final = {"miniature": ("alignment",), "published": ("aesthetic", "pickscore", "hpsv2")}
FEATURES: Final = "aesthetic"  # the miniature's, whose features Frechet distances are taken in
_MINIATURE: Final[Mapping[str, Callable[[Options], Scorer]]] = {
    "alignment": Alignment, "aesthetic": MiniatureAesthetic, "attributes": AttributeCheck,
}  # fmt: skip

_resident: dict[tuple[object, ...], Panel] = {}  # one slot


def panel_of(request: EvaluateRequest) -> Panel:
    """The judges of the last call where they are the same, else loaded in their place."""
    key = (
        request.judges, needed(request), request.scorers_folder, request.hps_version, request.hps_antialias,
        request.scorer_dtype, request.device, request.batch_size, tuple(scorer_versions(request).items()),
    )  # fmt: skip
    if key not in _resident:
        _resident.clear()  # before loading: ten gigabytes twice need not fit
        _resident[key] = Panel([_load(name, request) for name in needed(request)], request.batch_size)
    return _resident[key]


def needed(request: EvaluateRequest) -> tuple[str, ...]:
    """The judges that are asked, some of them for their vectors only."""
    names = [name for name in request.scorers if name in JUDGES[request.judges]]
    if (by := embedder(request)) is not None:
        names.append(by)
    if set(request.scorers) & set(SET_METRICS):
        names.append(FEATURES)
    return tuple(dict.fromkeys(names))


def embedder(request: EvaluateRequest) -> str | None:
    """Whose vectors diversity is measured in; None where it is not asked for, or no judge there has any."""
    if DIVERSITY not in request.scorers:
        return None
    if request.judges == "miniature":
        return _EMBEDDERS["miniature"][0]
    return next((name for name in _EMBEDDERS["published"] if name in request.scorers), None)


def _load(name: str, request: EvaluateRequest) -> Scorer:
    if request.judges == "miniature":
        options = Options(version=scorer_versions(request).get(name, ""))
        return _MINIATURE[name](options)
    from spin.evaluate.checkpoints import Checkpoint  # open_clip and transformers: seconds that the miniature saves

    options = Options(request.device, DTYPES[request.scorer_dtype])
    files = Checkpoint(name, request.scorers_folder, request.hps_version, request.hps_antialias)
    return files.build(options)
