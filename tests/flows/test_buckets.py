"""A folder of pictures of several shapes, from `check` to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spin.core.layout import RunsRoot
from spin.core.schema import read_table
from tests.flows.command_line import type_in
from tests.flows.test_own_data import TINY
from tests.oblong import write_oblong

pytestmark = pytest.mark.system

ASKED = (
    "run.name=oblong", "iterations=1", "sft.steps=0", "data.source=imagefolder", "data.path=own", "data.bucket_step=8",
    "data.aspect_ratio=buckets", "data.held_out_share=0.25", "evaluation.scorers=[frechet]", *TINY[2:],
)  # fmt: skip


def settings(*more: str) -> tuple[str, ...]:
    return tuple(word for text in (*ASKED, *more) for word in ("--set", text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oblong")
    write_oblong(folder / "own", 40)
    return folder


def test_a_run_tells_its_buckets_and_draws_in_them(folder: Path) -> None:
    answer = type_in(folder, "run", "miniature", *settings())
    assert answer.code == 0, answer.err
    run = RunsRoot(folder / "runs").run("oblong")
    counts = json.loads(run.record.read_text())["buckets"]
    train = read_table(run.prompts).filter(read_table(run.prompts)["split"].to_numpy() == "train")
    assert set(counts) == {"32 x 32", "24 x 40", "40 x 24"}
    assert sum(counts.values()) == len(train)
    sampled = [read_table(path) for path in sorted(run.iteration(1).samples(0).parent.glob("shard-*.parquet"))]
    rows = [row for table in sampled for row in table.select(["latent_height", "latent_width"]).to_pylist()]
    sizes = {(row["latent_height"], row["latent_width"]) for row in rows}
    assert sizes <= {(4, 4), (3, 5), (5, 3)}
    assert len(sizes) > 1
    assert "Train rows by height and width in pixels" in run.report.read_text()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("data.bucket_step=64", "data.bucket_step: 64 does not divide the model's own 32 pixels into patches of 8; "
         "set it to one of 8, 16"),
        ("data.bucket_ratio=1.1", "data.bucket_ratio: 1.1 leaves the square alone in steps of 8; raise it, or lower "
         "data.bucket_step, or set data.aspect_ratio to square"),
        ("data.bucket_step=12", "--set data.bucket_step=12: must be a multiple of 8, got 12"),
    ],
)  # fmt: skip
def test_check_names_buckets_that_the_model_cannot_have(folder: Path, more: str, line: str) -> None:
    assert type_in(folder, "check", "miniature", *settings(more)).line.endswith(line)


def test_plan_says_what_filling_up_costs(folder: Path) -> None:
    answer = type_in(folder, "plan", "miniature", *settings("run.name=planned", "sampling.shard_size=8"))
    assert answer.code == 0, answer.err
    assert "in buckets shards of 8 are drawn as 1.5 times as many images" in " ".join(answer.out.split())
