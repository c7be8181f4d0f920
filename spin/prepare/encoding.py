"""Encodes real pictures and captions once, with the base model's frozen VAE and text encoder."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL

from spin.core.buckets import packed
from spin.core.errors import DataError
from spin.core.plan import padded_batches, prompt_hash
from spin.core.schema import LATENT_SIZES, POSTERIOR, rows_per_group, tensor_column, tensor_field, writing
from spin.diffusion.checkpoint import load_vae
from spin.diffusion.families.registry import read_configs, vae_factor
from spin.diffusion.text import PromptEncoder
from spin.miniature.world import Split
from spin.prepare.passes import TEXT_BATCH, picture_batch
from spin.prepare.rows import Pictures, Pixels, Row, TargetData
from spin.prepare.scratch import Scratch

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
Numbered = tuple[int, Pixels]

_NAMED: Final = (pa.field("sample_id", pa.string()),)
_IN_BUCKETS: Final = (*_NAMED, *(pa.field(name, pa.int32()) for name in LATENT_SIZES))


@torch.no_grad()
def write_latents(
    path: Path,
    rows: Sequence[Row],
    read: Pictures,
    *,
    splits: Set[Split],
    size: int,
    in_buckets: bool = False,
    base: Path,
    device: str,
    threads: int,
    progress: Progress,
) -> None:
    """Write the VAE's posterior of the rows of `splits`, unscaled, in the order of prompts.parquet.

    Columns latent_mean and latent_log_variance, (C, h, w) float32 each; in buckets (C, area), and the sizes beside
    them. Pictures come from `read` in the order of the disk, and pass in padded batches of one shape; their latents
    wait for their place on disk.

    Args:
        size: side of the model's own square, in pixels.
        in_buckets: whether the pictures are of several sizes.
    """
    torch.set_num_threads(threads)
    vae = load_vae(base, device=device)
    wanted = np.fromiter((row.split in splits for row in rows), np.bool_, len(rows))
    place, total = np.cumsum(wanted) - 1, int(wanted.sum())
    scratch: Scratch | None = None
    done = 0
    factor = vae_factor(read_configs(base))
    for chunk in _batches(read(size, splits), picture_batch(size)):
        values = _encode(vae, [picture for _, picture in chunk], picture_batch(size), device)
        _refuse_not_finite(values, [rows[number].sample_id for number, _ in chunk], base)
        if in_buckets:
            values = packed(values, (size // factor) ** 2)
        if scratch is None:
            scratch = Scratch(path.parent, total, values.shape[1:], np.float32)
        for (number, _), posterior in zip(chunk, values, strict=True):
            scratch.put(int(place[number]), posterior)
        done += len(chunk)
        progress(done, total)
    assert scratch is not None
    chosen = (row for row in rows if row.split in splits)
    if in_buckets:
        named = ((row.sample_id, *(side // factor for side in row.size(size))) for row in chosen)
        return _write_posteriors(path, _IN_BUCKETS, named, scratch)
    return _write_posteriors(path, _NAMED, ((row.sample_id,) for row in chosen), scratch)


@torch.no_grad()
def write_text(path: Path, data: TargetData, *, base: Path, device: str, threads: int) -> None:
    """Write every unique caption and the empty one as the model sees them: float32 columns named by its family."""
    torch.set_num_threads(threads)
    captions = {prompt_hash(caption): caption for caption in {"", *(row.caption for row in data.rows)}}
    hashes = sorted(captions)
    encoder = PromptEncoder.load(base, device=device)
    tensors = [tensor_field(name, shape, "float32") for name, shape in encoder.shapes.items()]
    schema = pa.schema([pa.field("prompt_hash", pa.string()), *tensors])
    with pq.ParquetWriter(path, schema, use_dictionary=False, write_page_checksum=True, **writing(schema)) as writer:
        for batch in padded_batches(range(len(hashes)), TEXT_BATCH):
            numbers = list(dict.fromkeys(batch))
            given = encoder.encode([captions[hashes[i]] for i in batch])[: len(numbers)].tensors
            columns = [tensor_column(given[name].cpu().numpy()) for name in encoder.shapes]
            writer.write_table(pa.Table.from_arrays([pa.array([hashes[i] for i in numbers]), *columns], schema=schema))


def _batches(pictures: Iterable[Numbered], count: int) -> Iterator[list[Numbered]]:
    """Pictures of one size, `count` at once as soon as there are so many; what is left of each size comes last."""
    waiting: dict[tuple[int, ...], list[Numbered]] = {}
    for number, picture in pictures:
        batch = waiting.setdefault(picture.shape, [])
        batch.append((number, picture))
        if len(batch) == count:
            yield waiting.pop(picture.shape)
    yield from waiting.values()


def _encode(vae: AutoencoderKL, pictures: Sequence[Pixels], batch: int, device: str) -> Floats:
    """(N, 2, C, h, w): mean and log-variance of the posterior of each picture, filled up to a batch."""
    padding = [pictures[-1]] * (batch - len(pictures))
    images = torch.from_numpy(np.stack([*pictures, *padding])).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    posterior = vae.encode(images).latent_dist
    values: Floats = torch.stack([posterior.mean, posterior.logvar], dim=1)[: len(pictures)].cpu().numpy()
    return values


def _refuse_not_finite(values: Floats, names: Sequence[str], base: Path) -> None:
    """A picture whose latents are not finite would stop training at whatever step reads it first."""
    broken = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value).all()]
    if broken:
        problem = f"encodes row {broken[0]} to NaN or infinity" + (
            f", and {len(broken) - 1} more" if broken[1:] else ""
        )
        raise DataError(problem, where=str(base / "vae"), fix="mend the model, or take the picture out of the data")


def _write_posteriors(
    path: Path, named: Sequence[pa.Field], rows: Iterator[tuple[Any, ...]], posteriors: Scratch
) -> None:
    """A row for each record, with what is named of it."""
    total, _, *shape = posteriors.shape
    schema = pa.schema([*named, *(tensor_field(name, shape, "float32") for name in POSTERIOR)])
    step = rows_per_group(schema) or total
    with pq.ParquetWriter(path, schema, use_dictionary=False, write_page_checksum=True, **writing(schema)) as writer:
        for start in range(0, total, step):
            values = posteriors.get(slice(start, min(start + step, total)))
            columns = [
                *zip(*islice(rows, len(values)), strict=True),
                *(tensor_column(values[:, part]) for part in (0, 1)),
            ]
            writer.write_table(pa.table(columns, schema=schema))
