"""Images that stand, drawn again: does a shard hold what its plan and its opponent give?

A hash proves that bytes are those that were written; only drawing proves that they were the right ones.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spin.core.difference import TOLD
from spin.core.environment import other_class
from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder
from spin.core.plan import Plan, identity_hash
from spin.core.planning import read_shard_rows
from spin.core.schema import is_tensor, read_table, read_tensors
from spin.core.store import read_manifest, verify
from spin.sample.drawing import class_of, draw_rows, table_of
from spin.sample.opponent import Opponent
from spin.sample.request import SampleRequest


@dataclass(frozen=True)
class Checked:
    differing: int = 0
    largest_difference: float = 0.0
    notes: tuple[str, ...] = ()


def rows_to_check(stage: StageFolder, shards: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Up to `count` rows of the plan, spread over the shards by a hash of each row's identity."""
    if count <= 0:
        return []
    rows = (row for shard in shards for row in read_shard_rows(stage, shard))
    chosen = nsmallest(count, rows, key=lambda row: identity_hash("check", row["sample_id"], row["draw"]))
    return sorted(chosen, key=lambda row: int(row["position"]))


def check_images(
    rows: Sequence[dict[str, Any]],
    request: SampleRequest,
    plan: Plan,
    opponent: Opponent,
    advance: Callable[[int], None],
) -> Checked:
    """Draw `rows` again and compare with their shards; writes nothing."""
    if not rows:
        return Checked()
    drawn = table_of(rows, draw_rows(rows, request, plan, opponent, advance), request)
    differences = np.zeros(len(rows), np.float32)
    stage = StageFolder(request.stage)
    for name in (field.name for field in drawn.schema if is_tensor(field)):
        standing = _standing(stage, rows, name)
        apart = np.abs(read_tensors(drawn, name) - standing).reshape(len(rows), -1).max(axis=1)
        differences = np.maximum(differences, _finite(apart))
    here = class_of(request, plan, opponent)
    notes = [note for shard in sorted({row["shard"] for row in rows}) for note in _other_class(stage, shard, here)]
    return Checked(int(np.count_nonzero(differences)), float(differences.max()), tuple(notes))


def _standing(stage: StageFolder, rows: Sequence[dict[str, Any]], name: str) -> npt.NDArray[np.float32]:
    """A tensor column of these rows, in their order, from their shards' files."""
    found: list[npt.NDArray[np.float32]] = []
    for shard in sorted({row["shard"] for row in rows}):
        path = stage.samples(shard)
        verify(path)
        table = read_table(path, ["position", name])
        wanted = [row["position"] for row in rows if row["shard"] == shard]
        places = {position: place for place, position in enumerate(table["position"].to_pylist())}
        if not places.keys() >= set(wanted):
            raise ArtifactError("rows are not those of the plan", where=str(path), fix="delete it; it is made again")
        found.append(read_tensors(table.take(pa.array([places[position] for position in wanted])), name))
    return np.concatenate(found)


def _other_class(stage: StageFolder, shard: int, here: Mapping[str, object]) -> Iterator[str]:
    manifest = read_manifest(stage.samples(shard))
    there = {} if manifest is None else manifest.environment
    if note := other_class(here, there):
        yield f"shard {shard} was {note}: small differences are no damage"


def _finite(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The answer travels as JSON, which has no infinity and no NaN."""
    return np.nan_to_num(values, nan=TOLD, posinf=TOLD)
