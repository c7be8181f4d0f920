"""Plan + checkpoint k -> the opponent's images, shard by shard.

A shard that stands is never made again; one that is missing or damaged is. The bits of an image depend
on its seed and the batch shape, not on the split into shards. While a shard is drawn the one before it is packed,
written, hashed and committed in the background.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch

from spin.core.background import Background
from spin.core.environment import class_differences, device_clock
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import StageFolder
from spin.core.memory import explaining_shortage
from spin.core.plan import Plan
from spin.core.planning import read_plan, read_shard_rows
from spin.core.progress import Progress, silent
from spin.core.schema import UNSAFE, content_digest, write_table
from spin.core.store import commit, read_manifest, stands, verify
from spin.diffusion.attention import refuse_missing_kernel
from spin.sample.checking import check_images, rows_to_check
from spin.sample.drawing import Drawings, class_of, draw_rows, table_of
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
    verify(stage.plan_rows)
    opponent, loaded = resident_opponent(request)
    if missing and not request.mix_classes:
        _refuse_other_class(stage, plan, identity, class_of(request, plan, opponent))
    images = sum(len(plan.shard_range(shard)) for shard in missing)
    tell = partial(_tell, progress, images + len(to_check))
    flagged = _make_shards(missing, request, plan, opponent, tell)
    checked = check_images(to_check, request, plan, opponent, partial(tell, images))
    return SampleResult(
        made=tuple(missing),
        images=images,
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


def _tell(progress: Progress, total: int, before: int, images: int) -> None:
    progress(before + images, total)


def _make_shards(
    missing: Sequence[int], request: SampleRequest, plan: Plan, opponent: Opponent, tell: Callable[[int, int], None]
) -> int:
    """Draw shards and commit each in the background; how many of their images are marked as unsafe."""
    stage, done = StageFolder(request.stage), 0
    shards = _Shards(request, plan, opponent)
    with Background() as background:

        def advance(images: int) -> None:
            background.refuse_failed()
            tell(done, images)

        for shard in missing:
            rows = read_shard_rows(stage, shard)
            drawings = draw_rows(rows, request, plan, opponent, advance)
            background.hand_over(shards.finishing(stage.samples(shard), rows, drawings))
            done += len(rows)
    return shards.flagged


class _Shards:
    """Commits the shards of a call while the next ones are drawn.

    `seconds` and `device_seconds` in a shard's manifest are those since the shard before it was written, or since the
    first was begun: part of them went into the next one, and their sum over the shards is what the call took.
    """

    def __init__(self, request: SampleRequest, plan: Plan, opponent: Opponent) -> None:
        self._request, self._plan, self._opponent = request, plan, opponent
        self._clocks = (time.perf_counter, device_clock(request.device))
        self._last = self._now()
        self.flagged = 0  # images that are marked as unsafe

    def finishing(self, path: Path, rows: list[dict[str, Any]], drawings: Drawings) -> Callable[[], None]:
        """What is left to do for a shard that is drawn; told as things are now, another thread does it later."""
        told = {
            **class_of(self._request, self._plan, self._opponent),
            "images": len(rows),
            "notes": list(self._opponent.notes),
        }
        if self._request.compile:
            network = self._opponent.network
            told |= {"compiles": network.compiles, "shapes": len(network.shapes)}
        return partial(self._finish, path, rows, drawings, told)

    def _finish(self, path: Path, rows: list[dict[str, Any]], drawings: Drawings, told: dict[str, Any]) -> None:
        table = table_of(rows, drawings, self._request)
        flagged = 0
        if self._request.safety is not None:
            flagged = told["flagged"] = pc.sum(table[UNSAFE]).as_py() or 0
        commit(
            path,
            lambda target: write_table(target, table),
            kind="samples",
            digest=content_digest,
            identity=shard_identity(self._request, self._plan),
            environment=lambda: {**told, **self._lap()},
        )
        self.flagged += flagged

    def _lap(self) -> dict[str, float]:
        before, self._last = self._last, self._now()
        seconds, worked = (now - then for now, then in zip(self._last, before, strict=True))
        return {"seconds": seconds, "device_seconds": worked}

    def _now(self) -> list[float]:
        return [clock() for clock in self._clocks]
