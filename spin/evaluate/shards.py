"""Which files an evaluation is made of, what each is made from, and which of them are missing; no torch.

A shard is some prompts in their order, about `shard_size` pictures: the pictures, their scores, those that cannot
be judged, and where there are real images, a model's denoising error on them. The numbers of the whole set are one
file, made from every shard's pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from spin.core.config_rules import JUDGES
from spin.core.environment import code_version
from spin.core.errors import ArtifactError
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.plan import identity_hash
from spin.core.plan import shard_count as count_shards
from spin.core.store import is_whole, read_manifest
from spin.evaluate.asked import read_prompts
from spin.evaluate.pins import judge_version
from spin.evaluate.request import EvaluateRequest
from spin.miniature.judge_weights import judges_digest

Part = Literal["images", "latents", "quarantine", "scores", "safety", "denoising"]
Identity = dict[str, Any]
Check = Callable[
    [Path, Identity], bool
]  # `looks_whole`, or the store's `stands`: every byte was hashed since it was touched


def looks_whole(artifact: Path, identity: Identity) -> bool:
    """Shallow: manifest, size and footer."""
    return is_whole(artifact, identity=identity)


def evaluation_folder(request: EvaluateRequest) -> EvaluationFolder:
    """Where an evaluation stands: a function of what is evaluated and how, shared by runs."""
    settings = identity_hash(sorted(_settings(request).items()))[:12]
    root = RunsRoot(request.runs_root)
    return root.evaluation(request.subject_digest, request.benchmark, request.protocol, settings)


def prompts_in_shard(request: EvaluateRequest) -> int:
    """Prompts of one shard: so many that their pictures are about `shard_size`."""
    pictures = request.images_per_prompt if request.protocol == "best_of_n" else 1
    return max(1, request.shard_size // pictures)


def shard_count(request: EvaluateRequest) -> int:
    """Number of shards of the whole evaluation; counts the prompts."""
    return count_shards(len(read_prompts(request, trusting=True)), prompts_in_shard(request))


def picture_count(request: EvaluateRequest, shards: Sequence[int]) -> int:
    """Pictures that these shards hold."""
    prompts, size = read_prompts(request, trusting=True), prompts_in_shard(request)
    return sum(prompt.draws for shard in shards for prompt in prompts[shard * size : (shard + 1) * size])


def is_measured(request: EvaluateRequest) -> bool:
    """Whether a model's held-out denoising error is part of the evaluation."""
    return request.subject is not None and request.real is not None and request.denoising_draws > 0


def is_looked_at(request: EvaluateRequest) -> bool:
    """Whether a safety checker looks at the pictures."""
    return request.subject is not None and request.safety is not None


def named_shards(request: EvaluateRequest, count: int) -> tuple[int, ...]:
    """The shards that a request asks for, in order."""
    if request.shards is None:
        return tuple(range(count))
    unknown = [shard for shard in request.shards if not 0 <= shard < count]
    if unknown:
        where = str(evaluation_folder(request).path)
        raise ArtifactError(f"no shard {unknown[0]}", where=where, fix=f"name a shard from 0 to {count - 1}")
    return tuple(sorted(set(request.shards)))


def missing_shards(request: EvaluateRequest, *, check: Check = looks_whole) -> tuple[int, ...]:
    """Shards of the whole evaluation that lack a part, whichever shards the request names."""
    return _missing(request, shard_count(request), check)


def is_finished(request: EvaluateRequest, *, check: Check = looks_whole) -> bool:
    """Whether every shard and the numbers of the whole set stand, whichever shards the request names."""
    count = shard_count(request)
    if _missing(request, count, check):
        return False
    return check(evaluation_folder(request).set_metrics, set_identity(request, count))


def missing_parts(request: EvaluateRequest, shard: int, *, check: Check = looks_whole) -> tuple[Part, ...]:
    """What one shard lacks. Scores of lost pictures may still stand: they do where the same pictures come again."""
    parts: tuple[Part, ...] = ("images", "quarantine", "scores")
    if request.store_latents and request.subject is not None:
        parts = ("latents", *parts)
    if is_looked_at(request):
        parts = (*parts, "safety")
    if is_measured(request):
        parts = (*parts, "denoising")
    folder = evaluation_folder(request)
    return tuple(
        part for part in parts if not check(part_path(folder, shard, part), part_identity(request, shard, part))
    )


def part_path(folder: EvaluationFolder, shard: int, part: Part) -> Path:
    paths: Mapping[Part, Callable[[int], Path]] = {
        "images": folder.images, "latents": folder.latents, "quarantine": folder.quarantine, "scores": folder.scores,
        "safety": folder.safety, "denoising": folder.denoising,
    }  # fmt: skip
    return paths[part](shard)


def part_identity(request: EvaluateRequest, shard: int, part: Part) -> Identity:
    """What a part is made from; scores also name the pictures that stand now."""
    identity = {**_evaluation_identity(request), "shard": shard}
    if part not in ("scores", "quarantine", "safety"):
        return identity
    if part == "safety" and request.safety is not None:
        identity["checker"] = request.safety.identity
    return {**identity, "images": _content_digest(evaluation_folder(request).images(shard))}


def set_identity(request: EvaluateRequest, count: int) -> Identity:
    """What the numbers of the whole set are made from: the pictures of every shard, in the order of shards."""
    folder = evaluation_folder(request)
    return {
        **_evaluation_identity(request),
        "images": [_content_digest(folder.images(shard)) for shard in range(count)],
    }


def artifacts_of(folder: EvaluationFolder) -> Iterator[Path]:
    """Every file of an evaluation as the numbers of its whole set tell; before they are there, what has begun."""
    manifest = read_manifest(folder.set_metrics)
    if manifest is None:
        yield from sorted(folder.path.rglob("*.parquet"))
        yield folder.set_metrics
        return
    settings = manifest.identity["settings"]
    measured = settings["real"] and settings["denoising_draws"] and not manifest.identity["subject"].startswith("data-")
    yield from folder.artifacts(len(manifest.identity["images"]), measured=measured)
    for some in (folder.safety(0), folder.latents(0)):  # of those who asked for them
        yield from sorted(some.parent.glob("*.parquet"))


def require_cover(request: EvaluateRequest, count: int) -> None:
    """Refuse to speak of the whole set while a shard is missing; shallow, the pictures are verified when read."""
    for shard in range(count):
        missing = missing_parts(request, shard)
        if missing:
            raise ArtifactError(
                f"shard {shard} of 0 to {count - 1} has no {' and no '.join(missing)} yet",
                where=str(part_path(evaluation_folder(request), shard, missing[0])),
                fix="evaluate it; the numbers of the whole set need every shard",
            )


def _settings(request: EvaluateRequest) -> Identity:
    names = (
        "data_digest", "benchmark", "max_prompts", "protocol", "images_per_prompt", "diversity_prompts",
        "diversity_images", "scheduler", "guidance_scale", "num_inference_steps", "seed", "batch_size", "shard_size",
        "judges", "hps_version", "hps_antialias", "scorer_dtype", "denoising_draws", "dtype",
    )  # fmt: skip
    approximated = request.approximation.settings
    return {
        **{name: getattr(request, name) for name in names},
        "scorers": list(request.scorers),
        "versions": scorer_versions(request),
        "real": request.real is not None,
        # Nothing where drawing is exact: evaluations that stand stay valid. What an approximation leaves out is no
        # solver's definition but this code's: pictures of other code are no answer.
        **({**approximated, "code_version": code_version()} if approximated else {}),
    }


def scorer_versions(request: EvaluateRequest) -> dict[str, str]:
    """Digest of the weights of each judge; of the miniature's all, as some are asked for their vectors only."""
    if request.judges == "miniature":
        return dict.fromkeys(JUDGES["miniature"], judges_digest())
    judges = [name for name in request.scorers if name in JUDGES["published"]]
    return {name: judge_version(name, request.scorers_folder, hps_version=request.hps_version) for name in judges}


def _evaluation_identity(request: EvaluateRequest) -> Identity:
    return {"subject": request.subject_digest, "settings": _settings(request)}


def _missing(request: EvaluateRequest, count: int, check: Check) -> tuple[int, ...]:
    return tuple(shard for shard in range(count) if missing_parts(request, shard, check=check))


def _content_digest(artifact: Path) -> str | None:
    """None where the artifact does not exist or its manifest is damaged: nothing can have been made from it."""
    try:
        manifest = read_manifest(artifact)
    except ArtifactError:
        return None
    return None if manifest is None else manifest.content_digest
