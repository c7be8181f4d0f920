"""Prompts that a model was trained on must not be those that it is judged by."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from spin.core.errors import DataError
from spin.core.store import verify

_SHOWN: Final = 60  # characters of the caption that an error names


def training_captions(prompts: Path) -> Iterator[str]:
    """Captions of the train split of prompts.parquet, in passes."""
    return _captions(prompts, "train")


def held_out_captions(prompts: Path, split: str) -> Iterator[str]:
    return _captions(prompts, split)


def refuse_leaks(trained: Iterable[str], asked: Iterable[str], *, benchmark: str) -> None:
    """DataError where a prompt of the benchmark is a caption of the training rows, letter case and blanks aside."""
    seen = {plain(caption) for caption in trained}
    leaked = [prompt for prompt in asked if plain(prompt) in seen]
    if leaked:
        others = f" and {len(leaked) - 1} more" if len(leaked) > 1 else ""
        raise DataError(
            f"prompts leak from training into the test: {leaked[0][:_SHOWN]!r}{others} stand in the training rows too",
            where=f"evaluation.benchmarks: {benchmark}",
            fix="take these rows out of the data, or judge by another benchmark",
        )


def plain(caption: str) -> str:
    """A caption as a careless copy might differ from it."""
    return " ".join(unicodedata.normalize("NFKC", caption).casefold().split())


def _captions(prompts: Path, split: str) -> Iterator[str]:
    verify(prompts)
    with pq.ParquetFile(prompts, page_checksum_verification=True) as file:
        for batch in file.iter_batches(columns=["caption", "split"]):
            yield from batch.filter(pc.equal(batch["split"], split))["caption"].to_pylist()
