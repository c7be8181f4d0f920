"""How much data a run has: counted where it is prepared, else as its source states it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow.compute as pc

from flows.requests import Requests
from spin.core.benchmarks import HELD_OUT
from spin.core.config import Config
from spin.core.outline import Rows, benchmarks_of
from spin.core.schema import read_table
from spin.evaluate.benchmarks import BENCHMARKS
from spin.miniature.world import split_attributes

_FILE_OF_PROMPTS: Final = 256  # prompts of a file that nobody has read yet


@dataclass(frozen=True)
class Stated:
    """What the authors of a data set say of its train split."""

    rows: int
    prompts: int
    source: str


# SPIN's own paper gives costs for about 0.92 million images; the data set's rows without ties are fewer.
STATED: Final = {"pickapic": Stated(851_293, 58_960, "Pick-a-Pic v2 without ties, as arXiv 2311.12908 counts it")}


def rows_of(requests: Requests) -> Rows:
    """Rows and captions of the run's data; None where nobody can say."""
    data, prompts = requests.config.data, requests.folder.prompts
    if prompts.exists():
        table = read_table(prompts, columns=["split", "prompt_hash"])
        train = int(pc.sum(pc.equal(table["split"], "train")).as_py() or 0)
        return Rows(train, len(table), pc.count_distinct(table["prompt_hash"]).as_py(), "prepared")
    if data.source == "miniature":
        whole, held = len(split_attributes("train")), sum(len(split_attributes(s)) for s in ("validation", "test"))
        train = min(data.rows or whole, whole)
        return Rows(train, train + held, train + held, "the embedded world")
    stated = STATED.get(data.source)
    if stated is None:
        told = "data.rows" if data.rows else "an image is counted for each reading, data.rows may say more"
        with_held_out = None if data.rows is None else round(data.rows / (1 - data.held_out_share))
        return Rows(data.rows, with_held_out, None, f"not prepared yet; {told}")
    held = round(stated.rows * data.held_out_share)
    train = min(data.rows or stated.rows, stated.rows - held)
    told = f"not prepared yet; {stated.source}"
    return Rows(train, train + held, min(stated.prompts, train + held), told, source=stated.rows)


def evaluated_pictures(config: Config, rows: Rows) -> int:
    """Pictures that an evaluation of one model draws, over all benchmarks."""
    evaluation = config.evaluation
    total = 0
    for benchmark in benchmarks_of(config):
        known = _prompts(benchmark, rows)
        prompts = min(known, evaluation.prompts or known)
        if evaluation.protocol == "best_of_n":
            total += prompts * evaluation.images_per_prompt
        else:
            total += prompts + min(prompts, evaluation.diversity_prompts) * (evaluation.diversity_images - 1)
    return total


def _prompts(benchmark: str, rows: Rows) -> int:
    """Of a benchmark; half of the held-out rows validate, half test."""
    if benchmark in HELD_OUT and rows.all is not None and rows.train is not None:
        held = rows.all - rows.train
        if rows.told == "the embedded world":
            return len(split_attributes("test" if benchmark == "test" else "validation"))
        return held // 2
    known = BENCHMARKS.get(benchmark.partition("=")[0])
    return _FILE_OF_PROMPTS if known is None else known.prompts
