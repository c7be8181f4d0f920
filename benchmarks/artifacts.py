"""How fast latents come and go as Parquet: tensor columns as ours against list columns, in turn, in one run.

    python -m benchmarks.artifacts            # about a minute on two cores
    python -m benchmarks.artifacts --rows 4096 --rounds 9 --json artifacts.json

Both ways write with page checksums and read equal values. The bytes stay in the page cache: it is the format that is
measured, not the disk. Nothing else of a commit is in it: sha256 takes 1 to 2 GB/s beside.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.schema import read_table, read_tensors, tensor_column, tensor_field, write_table
from spin.core.tensor_rows import open_tensors

SHAPE: Final = (4, 64, 64)  # SD-1.5 at 512 pixels: 32 KiB in float16
BATCH: Final = 64  # rows that a training step reads at once
Latents = npt.NDArray[np.float16]
Way = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of rounds, and its bootstrap 95 % interval."""

    median: float
    low: float
    high: float


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
    column = read_table(path)["latent"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), *SHAPE)


def read_rows(path: Path, order: npt.NDArray[np.int64]) -> Latents:
    """Batch after batch of rows in an order of chance, as training reads; the last batch."""
    rows = open_tensors([path], "latent")
    found = rows[order[:0]]
    for start in range(0, len(order), BATCH):
        found = rows[order[start : start + BATCH]]
    return found


def rounds(ways: Mapping[str, Way], count: int) -> dict[str, list[float]]:
    """Seconds of each way, every way once a round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(count):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(slower: Sequence[float], faster: Sequence[float], *, draws: int = 2000) -> Ratio:
    """How many times faster, round by round."""
    found = np.array(slower) / np.array(faster)
    picks = np.random.default_rng(0).integers(0, len(found), (draws, len(found)))
    low, high = np.quantile(np.median(found[picks], axis=1), [0.025, 0.975])
    return Ratio(float(np.median(found)), float(low), float(high))


def measure(folder: Path, latents: Latents, count: int) -> dict[str, list[float]]:
    """Seconds of writing and reading; raises where a way does not give back what was written."""
    ours, lists = folder / "ours.parquet", folder / "lists.parquet"
    order = np.random.default_rng(1).permutation(len(latents))
    ways: dict[str, Way] = {
        "write, list column": lambda: write_lists(lists, latents),
        "write, ours": lambda: write_ours(ours, latents),
        "read, list column": lambda: read_lists(lists),
        "read, ours, whole table": lambda: read_ours(ours),
        "read, ours, rows by chance": lambda: read_rows(ours, order),
    }
    for way in ways.values():  # a first round that is not counted: files and code are there
        way()
    for found in (read_ours(ours), read_lists(lists), open_tensors([ours], "latent")[np.arange(len(latents))]):
        np.testing.assert_array_equal(found, latents)
    return rounds(ways, count)


def table_of(seconds: Mapping[str, Sequence[float]], size_bytes: int) -> list[str]:
    """A line for each way: MB/s (median, p10, p90), and how many times the list column's."""
    lines = ["| latents | MB/s, median | p10 | p90 | times list column (95 %) |", "|---|---|---|---|---|"]
    for name, spent in seconds.items():
        p10, median, p90 = np.quantile(size_bytes / 1e6 / np.array(spent), [0.1, 0.5, 0.9])
        against = ratio(seconds[f"{name.split(',')[0]}, list column"], spent)
        times = f"{against.median:.1f} ({against.low:.1f} to {against.high:.1f})"
        lines.append(f"| {name} | {median:.0f} | {p10:.0f} | {p90:.0f} | {times} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    latents = np.random.default_rng(0).standard_normal((asked.rows, *SHAPE), np.float32).astype(np.float16)
    with tempfile.TemporaryDirectory(prefix="artifacts-") as folder:
        seconds = measure(Path(folder), latents, asked.rounds)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if asked.json:
        noted: dict[str, Any] = {
            "seconds": seconds, "bytes": latents.nbytes, "rows": asked.rows, "shape": SHAPE, "dtype": "float16",
            "load": load, "cores": cores, "machine": platform.machine(), "python": platform.python_version(),
            "pyarrow": pa.__version__, "numpy": np.__version__,
        }  # fmt: skip
        asked.json.write_text(json.dumps(noted, indent=1) + "\n", "utf-8")
    print("\n".join(table_of(seconds, latents.nbytes)))
    print(f"{latents.nbytes / 1e6:.0f} MB; load average {load:.1f} on {cores} cores{', noisy' if load > cores else ''}")


if __name__ == "__main__":
    main()
