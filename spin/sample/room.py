"""Plan + checkpoint k -> the opponent's images, shard by shard.

A shard that stands is never made again; one that is missing or damaged is. The bits of an image depend
on its seed and the batch shape, not on the split into shards.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch

from spin.core.environment import class_differences, device_clock
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import StageFolder
from spin.core.memory import explaining_shortage
from spin.core.plan import Plan
from spin.core.planning import read_plan, read_shard_rows
from spin.core.progress import Progress, silent
from spin.core.schema import UNSAFE, content_digest, write_table
from spin.core.store import commit, read_manifest, stands
from spin.diffusion.attention import refuse_missing_kernel
from spin.sample.checking import check_images, rows_to_check
from spin.sample.drawing import class_of, draw_table
from spin.sample.identity import shard_identity
from spin.sample.opponent import Opponent, resident_opponent
from spin.sample.request import SampleRequest, SampleResult


def run(request: SampleRequest, *, progress: Progress = silent) -> SampleResult:
    """Make the shards that are missing, then check what was asked; `progress` hears of images done and to do."""
    with explaining_shortage(request.memory_knobs, device=request.device):
        return _run(request, progress)


def _run(request: SampleRequest, progress: Progress) -> SampleResult:
    start = time.perf_counter()
    torch.set_num_threads(request.threads)
    refuse_missing_kernel(request.attention, device=request.device, dtype=request.dtype)
    stage = StageFolder(request.stage)
    plan = read_plan(stage)
    _refuse_unknown_shards(request, plan, stage)
    identity = shard_identity(request, plan)
    missing = [shard for shard in request.shards if not stands(stage.samples(shard), identity)]
    to_check = rows_to_check(stage, request.shards, request.check_images)
    if not missing and not to_check:
        return SampleResult((), 0, time.perf_counter() - start)
    opponent, loaded = resident_opponent(request)
    if missing and not request.mix_classes:
        _refuse_other_class(stage, plan, identity, class_of(request, plan, opponent))
    done, total = 0, sum(len(plan.shard_range(shard)) for shard in missing) + len(to_check)

    def advance(images: int) -> None:
        progress(done + images, total)

    flagged = 0
    for shard in missing:
        rows = read_shard_rows(stage, shard)
        flagged += _make_shard(stage.samples(shard), rows, request, plan, opponent, advance)
        done += len(rows)
    checked = check_images(to_check, request, plan, opponent, advance)
    return SampleResult(
        made=tuple(missing),
        images=done,
        seconds=time.perf_counter() - start,
        notes=opponent.notes + checked.notes,
        loaded=loaded,
        checked=len(to_check),
        differing=checked.differing,
        largest_difference=checked.largest_difference,
        flagged=flagged,
    )


def _refuse_unknown_shards(request: SampleRequest, plan: Plan, stage: StageFolder) -> None:
    unknown = [shard for shard in request.shards if not 0 <= shard < plan.shards]
    if unknown:
        raise ArtifactError(
            f"no shard {unknown[0]}", where=str(stage.plan), fix=f"name a shard from 0 to {plan.shards - 1}"
        )


def _refuse_other_class(stage: StageFolder, plan: Plan, identity: dict[str, Any], found: dict[str, object]) -> None:
    """A shard that is made again must come out with its old bytes: all that was trained on them goes by these."""
    for shard in range(plan.shards):
        manifest = read_manifest(stage.samples(shard))
        if manifest is None or manifest.identity != identity:
            continue
        made = manifest.environment
        if differing := class_differences(found, made):
            raise ConfigError(
                f"other shards were made where the bits are others ({made.get('host')}): {', '.join(differing)}",
                where=stage.name, fix="make it there, or allow both with execution.mix_classes=true",
            )  # fmt: skip
        return


def _make_shard(
    path: Path,
    rows: list[dict[str, Any]],
    request: SampleRequest,
    plan: Plan,
    opponent: Opponent,
    advance: Callable[[int], None],
) -> int:
    """Commit one shard; how many of its images are marked as unsafe."""
    clock = device_clock(request.device)
    start, device_start = time.perf_counter(), clock()
    table = draw_table(rows, request, plan, opponent, advance)
    told = {} if request.safety is None else {"flagged": pc.sum(table[UNSAFE]).as_py() or 0}
    commit(
        path,
        lambda target: write_table(target, table),
        kind="samples",
        digest=content_digest,
        identity=shard_identity(request, plan),
        environment=lambda: {
            **class_of(request, plan, opponent),
            "images": len(rows),
            "seconds": time.perf_counter() - start,
            "device_seconds": clock() - device_start,
            "notes": list(opponent.notes),
            **told,
        },
    )
    return told.get("flagged", 0)
