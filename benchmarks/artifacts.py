"""How fast latents come and go as Parquet: tensor columns as ours against list columns, in turn, in one run.

    python -m benchmarks.artifacts cpu            # about a minute on two cores

Both ways write with page checksums and read equal values. Our whole table is read with these verified, as whatever is
read once; rows by chance verify nothing, because their file's sha256 was verified before. The bytes stay in the page
cache: it is the format that is measured, not the disk. Nothing else of a commit is in it: sha256 takes 1 to 2 GB/s.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command import measure
from benchmarks.measuring import Check, Measured, Way, interleave, machine
from benchmarks.profiles import Profile
from spin.core.schema import read_table, read_tensors, tensor_column, tensor_field, write_table
from spin.core.tensor_rows import open_tensors

SHAPE: Final = (4, 64, 64)  # SD-1.5 at 512 pixels: 32 KiB in float16
BATCH: Final = 64  # rows that a training step reads at once
Latents = npt.NDArray[np.float16]


def artifacts(profile: Profile, folder: Path) -> Measured:
    latents = np.random.default_rng(0).standard_normal((profile.latents, *SHAPE), np.float32).astype(np.float16)
    ours, lists = folder / "ours.parquet", folder / "lists.parquet"
    order, size = np.random.default_rng(1).permutation(len(latents)), latents.nbytes / 1e6
    ways = [
        Way("write, list column", partial(write_lists, lists, latents), size, kind="write"),
        Way("write, ours", partial(write_ours, ours, latents), size, kind="write"),
        Way("read, list column", partial(read_lists, lists), size, kind="read"),
        Way("read, ours, whole table", partial(read_ours, ours), size, kind="read"),
        Way("read, ours, rows by chance", partial(read_rows, ours, order), size, kind="read"),
    ]
    rounds = interleave(ways, rounds=2 * profile.rounds)
    found = {
        "a table": read_ours(ours),
        "a list column": read_lists(lists),
        "rows": open_tensors([ours], "latent")[order],
    }
    wanted = {"rows": latents[order]}
    checks = [
        Check(f"{name} read back", float(np.abs(values - wanted.get(name, latents)).max()), 0.0)
        for name, values in found.items()
    ]
    facts = {"MB": round(size, 1), "latent": "4 x 64 x 64 float16", "rows at once": BATCH}
    return Measured(
        "artifacts", profile.name, "", "MB", against=["write, list column", "read, list column"], checks=checks,
        facts=facts, machine=machine("cpu"), **rounds._asdict(),
    )  # fmt: skip


def write_ours(path: Path, latents: Latents) -> None:
    schema = pa.schema([tensor_field("latent", latents.shape[1:], "float16")])
    write_table(path, pa.table([tensor_column(latents)], schema=schema))


def write_lists(path: Path, latents: Latents) -> None:
    """As `datasets` and pandas write an array a row: nested lists' flat twin, values one by one."""
    flat = pa.array(latents.reshape(-1))
    offsets = np.arange(0, latents.size + 1, latents[0].size, dtype=np.int32)
    table = pa.table({"latent": pa.ListArray.from_arrays(pa.array(offsets), flat)})
    pq.write_table(table, path, use_dictionary=False, write_page_checksum=True)


def read_ours(path: Path) -> Latents:
    """All rows as one array, page checksums verified."""
    return read_tensors(read_table(path), "latent")


def read_lists(path: Path) -> Latents:
    column = pq.read_table(path)["latent"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), *SHAPE)


def read_rows(path: Path, order: npt.NDArray[np.int64]) -> Latents:
    """Batch after batch of rows in an order of chance, as training reads; the last batch."""
    rows = open_tensors([path], "latent")
    found = rows[order[:0]]
    for start in range(0, len(order), BATCH):
        found = rows[order[start : start + BATCH]]
    return found


def _all_rows(path: Path, order: npt.NDArray[np.int64]) -> Latents:
    """Read by chance, put back into their order."""
    return open_tensors([path], "latent")[order][np.argsort(order)]


if __name__ == "__main__":
    measure(artifacts, __doc__)
