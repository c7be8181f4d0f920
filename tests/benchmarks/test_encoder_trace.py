"""The probe sees what is there and nothing else, and reads latents as training does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.encoder_trace import Latents, drawn, encoded, told_apart
from spin.core.layout import RunsRoot, StageFolder
from spin.core.record import _FIELDS
from spin.core.schema import read_table, read_tensors
from tests.world import World

NAMES = [f"row-{number:02d}" for number in range(32)]


def latents(*, shift: float, seed: int) -> Latents:
    values = np.random.default_rng(seed).normal(size=(len(NAMES), 6)).astype(np.float32)
    return dict(zip(NAMES, values + np.float32(shift), strict=True))


def test_latents_that_differ_everywhere_are_told_apart() -> None:
    found = told_apart(latents(shift=0.0, seed=0), latents(shift=3.0, seed=1))
    assert list(found) == NAMES
    assert np.mean(list(found.values())) > 0.95


def test_equal_latents_are_told_apart_by_chance_only() -> None:
    """Each caption's two latents get one answer, which is right for one of them."""
    same = latents(shift=0.0, seed=0)
    assert set(told_apart(same, same).values()) == {0.5}


@pytest.fixture
def root(world: World, sampled: StageFolder, tmp_path: Path) -> RunsRoot:
    """A run with one sampled iteration, as far as the benchmark reads it."""
    run = RunsRoot(tmp_path).run("tiny")
    run.path.mkdir()
    record = {**dict.fromkeys(_FIELDS), "run": "tiny", "base": {"path": str(world.base)}, "real": str(world.cache.path)}
    run.record.write_text(json.dumps(record))
    shutil.copytree(sampled.path, run.iteration(1).path)
    return RunsRoot(tmp_path)


def test_the_opponents_latents_are_those_of_its_shards(root: RunsRoot) -> None:
    table = read_table(root.run("tiny").iteration(1).samples(0))
    found = drawn(root, "tiny")
    assert list(found) == table["sample_id"].to_pylist()
    expected = read_tensors(table, "latent").reshape(len(found), -1)
    np.testing.assert_array_equal(np.stack(list(found.values())), expected)


def test_real_latents_of_the_same_captions_have_the_same_shape(root: RunsRoot) -> None:
    straight = drawn(root, "tiny")
    real = encoded(root, "tiny", list(straight))
    assert list(real) == list(straight)
    assert {values.shape for values in real.values()} == {values.shape for values in straight.values()}
