from __future__ import annotations

import pytest
import torch

from spin.core.errors import ArtifactError
from spin.core.schema import read_table
from spin.diffusion.latents import read_real
from spin.evaluate.latents import HeldOutLatents
from tests.world import World


def test_they_are_the_scaled_means_of_the_rows_in_the_order_asked_for(world: World) -> None:
    ids = read_table(world.cache.latents, ["sample_id"])["sample_id"].to_pylist()
    wanted = [ids[300], ids[24], ids[-1], ids[30]]  # 24 train rows stand before them
    found = HeldOutLatents.open(world.cache, scaling=0.5, shift=0.25).of(wanted)
    whole = read_real(world.cache.latents, ids, scaling=0.5, shift=0.25).pick(range(len(ids)), None)
    assert found.shape == (4, *whole.shape[1:])
    assert torch.equal(found, whole[[300, 24, len(ids) - 1, 30]])


def test_a_row_that_was_never_encoded_is_named(world: World) -> None:
    latents = HeldOutLatents.open(world.cache, scaling=1.0, shift=0.0)
    with pytest.raises(ArtifactError, match=r"real\.parquet: row 'nobody' is not encoded; prepare again"):
        latents.of(["nobody"])
