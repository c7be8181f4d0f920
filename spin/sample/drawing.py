"""Rows of a plan -> the table of their images, batch by batch."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from spin.core.buckets import by_size, packed
from spin.core.environment import bit_class
from spin.core.plan import Plan, padded_batches
from spin.core.schema import IMAGE_TYPE, LATENT_SIZES, UNSAFE, image_schema, tensor_column, tensor_field
from spin.diffusion.pictures import encode_png
from spin.sample.drawn import Landing
from spin.sample.opponent import Opponent
from spin.sample.request import SampleRequest


def draw_rows(
    rows: Sequence[dict[str, Any]],
    request: SampleRequest,
    plan: Plan,
    opponent: Opponent,
    advance: Callable[[int], None],
) -> Drawings:
    """Draw any rows of the plan in padded batches of its size, those of one bucket together.

    Args:
        advance: hears of the images done; on a GPU of those that it has been given, at most one batch more.
    """
    batches: list[Landing] = []
    order: list[int] = []
    for group in by_size(range(len(rows)), lambda number: opponent.shape_of(rows[number])):
        for batch in padded_batches(group, plan.batch_size):
            fresh = list(dict.fromkeys(batch))  # what lies behind is padding
            drawn = opponent.draw([rows[number] for number in batch], request)
            batches.append(drawn.landing([str(rows[number]["sample_id"]) for number in fresh]))
            order += fresh
            # The newest of a GPU would have to be waited for, with nothing to do for it: the one before is looked at.
            for batch_here in batches[-1:] if batches[-1].is_here else batches[-2:-1]:
                batch_here.refuse_not_finite(request)
            advance(len(order))
    return Drawings(batches, np.argsort(order), opponent.area_of(rows[0]))


def table_of(rows: Sequence[dict[str, Any]], drawings: Drawings, request: SampleRequest) -> pa.Table:
    """The table of what was drawn for `rows`, once all of it is here; pictures as PNG."""
    for batch in drawings.batches:
        batch.refuse_not_finite(request)
    return _table(rows, drawings)


def class_of(request: SampleRequest, plan: Plan, opponent: Opponent) -> dict[str, object]:
    """The class within which what this process draws has equal bits."""
    return bit_class(
        device=request.device if request.device == "cpu" else f"{request.device} {torch.cuda.get_device_name()}",
        dtype=request.dtype,
        batch_size=plan.batch_size,
        threads=request.threads,
        compiled=request.compile and not opponent.notes,
        attention=request.attention,
    )


@dataclass(frozen=True)
class Drawings:
    """What the batches give, to be read in the order of the rows once they have landed."""

    batches: Sequence[Landing]
    places: npt.NDArray[np.int64]  # of each row, among what was drawn
    area: int | None  # of the largest latents; None where all are of one size

    def column(self, name: str) -> npt.NDArray[Any] | None:
        """A field of all rows, (N, ...); None where nobody asked for it."""
        parts = self._parts(name)
        return None if parts is None else np.concatenate(parts)[self.places]

    def latents(self, name: str) -> npt.NDArray[Any] | None:
        """The same of a field of latents: (N, ..., area) where they are of several sizes."""
        parts = self._parts(name)
        if parts is None or self.area is None:
            return self.column(name)
        return np.concatenate([packed(part, self.area) for part in parts])[self.places]

    def sizes(self) -> npt.NDArray[np.int32]:
        """Heights and widths of the latents, (2, N)."""
        found = [image.shape[-2:] for batch in self.batches for image in batch.wait().latents]
        return np.array(found, np.int32)[self.places].T

    def pictures(self) -> list[npt.NDArray[np.uint8]] | None:
        parts = self._parts("pictures")
        if parts is None:
            return None
        found = [picture for part in parts for picture in part]
        return [found[place] for place in self.places]

    def _parts(self, name: str) -> list[npt.NDArray[Any]] | None:
        parts = [getattr(batch.wait(), name) for batch in self.batches]
        return None if parts[0] is None else [part.numpy() for part in parts]


def _table(rows: Sequence[dict[str, Any]], drawn: Drawings) -> pa.Table:
    """One row per image: straight latents, or the posterior of the image's round trip through 8 bits."""
    fields: list[pa.Field] = [
        pa.field("position", pa.int64()),
        pa.field("sample_id", pa.string()),
        pa.field("draw", pa.int32()),
        pa.field("seed", pa.uint64()),
    ]
    columns: list[Any] = [pa.array([row[f.name] for row in rows], f.type) for f in fields]
    if drawn.area is not None:
        fields += [pa.field(name, pa.int32()) for name in LATENT_SIZES]
        columns += [pa.array(sides) for sides in drawn.sizes()]
    mean, unsafe, pictures = drawn.latents("mean"), drawn.column("unsafe"), drawn.pictures()
    tensors = {
        "latent": drawn.latents("latents") if mean is None else None,
        "latent_mean": mean,
        "latent_log_variance": drawn.latents("log_variance"),
        "latent_mean_mirrored": drawn.latents("mean_mirrored"),
        "latent_log_variance_mirrored": drawn.latents("log_variance_mirrored"),
        "trajectory": drawn.latents("trajectory"),
        "timesteps": drawn.column("timesteps"),
    }
    for name, values in tensors.items():
        if values is None:
            continue
        fields.append(tensor_field(name, values.shape[1:], str(values.dtype)))
        columns.append(tensor_column(values))
    if unsafe is not None:
        fields.append(pa.field(UNSAFE, pa.bool_()))
        columns.append(pa.array(unsafe.tolist()))
    if pictures is None:
        return pa.table(columns, schema=pa.schema(fields))
    fields.append(pa.field("image", IMAGE_TYPE))
    columns.append(pa.array([{"bytes": encode_png(picture), "path": None} for picture in pictures], IMAGE_TYPE))
    return pa.table(columns, schema=image_schema(fields, ["image"]))
