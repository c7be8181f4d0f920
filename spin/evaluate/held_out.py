"""The held-out rows that every model is asked for, and the seeds that all of them start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.errors import ArtifactError, DataError
from spin.core.layout import RealCache
from spin.core.plan import seed_of
from spin.core.schema import read_table
from spin.core.store import verify
from spin.evaluate.request import EvaluateRequest


@dataclass(frozen=True)
class HeldOutRow:
    """A caption, the seed of every model's picture of it, and the place of its real picture in the file."""

    prompt_id: str
    prompt: str
    seed: int
    position: int


def read_held_out(request: EvaluateRequest) -> list[HeldOutRow]:
    """The first `max_prompts` rows of the split; a seed is a function of the row, so no model changes it.

    The whole file is verified; pictures stay in it until `real_pictures` takes some.
    """
    path = RealCache(request.real).held_out_images
    verify(path)
    table = read_table(path, ["sample_id", "caption", "split"]).to_pylist()
    rows = [(position, row) for position, row in enumerate(table) if row["split"] == request.split]
    if not rows:
        raise DataError(f"no rows in split {request.split!r}", where=str(path), fix="raise data.held_out_share")
    return [
        HeldOutRow(row["sample_id"], row["caption"], seed_of("evaluate", request.seed, row["sample_id"]), position)
        for position, row in rows[: request.max_prompts]
    ]


def real_pictures(request: EvaluateRequest, rows: Sequence[HeldOutRow]) -> list[bytes]:
    """The real PNG of each row."""
    table = take_rows(RealCache(request.real).held_out_images, [row.position for row in rows], "image")
    return [image["bytes"] for image in table["image"].to_pylist()]


def take_rows(path: Path, positions: Sequence[int], column: str) -> pa.Table:
    """One column of the rows at `positions`, in their order; row groups without any of them stay unread."""
    wanted = np.asarray(positions)
    order, start, pieces = np.argsort(wanted), 0, []
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                inside = order[(wanted[order] >= start) & (wanted[order] < end)]
                if len(inside):
                    pieces.append(file.read_row_group(group, columns=[column]).take(pa.array(wanted[inside] - start)))
                start = end
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"cannot be read as Parquet: {reason}", where=str(path), fix="run again") from error
    return pa.concat_tables(pieces).take(pa.array(np.argsort(order)))
