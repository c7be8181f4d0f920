from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder
from spin.core.plan import Visit
from spin.core.schema import read_table, read_tensors
from spin.diffusion.noise import training_draws
from spin.sample.room import run as sample
from spin.train.pairs import Pairs, read_pairs
from tests.world import ROWS, World


@pytest.fixture(scope="module")
def pairs(world: World, sampled: StageFolder) -> Pairs:
    return read_pairs(world.prompts, world.cache.latents, samples=sampled, scaling=1.0, shift=0.0)


def draws(count: int, *, flip: bool = False):
    return training_draws(
        [(str(i), 0) for i in range(count)], run_seed=0, stage="s", shape=(16, 4, 4), timesteps=1000,
        caption_dropout=0.0, flip=flip,
    )  # fmt: skip


def test_only_train_rows_are_read(world: World, pairs: Pairs) -> None:
    table = read_table(world.prompts)
    assert len(pairs.sample_ids) == ROWS
    assert pairs.sample_ids == table["sample_id"].to_pylist()[:ROWS]
    assert set(table["split"].to_pylist()[:ROWS]) == {"train"}
    assert pairs.real.shape_of(0) == (16, 4, 4)


def test_a_pair_is_one_row_and_its_own_generated_image(sampled: StageFolder, pairs: Pairs) -> None:
    table = read_table(sampled.samples(0))
    latents = dict(zip(table["sample_id"].to_pylist(), read_tensors(table, "latent"), strict=True))
    batch = [Visit(row=7, visit=0, draw=0), Visit(row=2, visit=0, draw=0)]
    generated = pairs.generated_latents(batch, draws(2), sampled=True)
    expected = np.stack([latents[pairs.sample_ids[row]] for row in (7, 2)])
    assert np.array_equal(generated.numpy(), expected)
    assert np.array_equal(pairs.real_latents(batch, draws(2), sampled=False).numpy(), pairs.real.mean[[7, 2]])


def test_the_posterior_is_drawn_or_left_alone(pairs: Pairs) -> None:
    batch = [Visit(3, 0, 0)]
    drawn, mean = (pairs.real_latents(batch, draws(1), sampled=sampled) for sampled in (True, False))
    assert pairs.real.log_variance is not None
    deviation = np.exp(0.5 * pairs.real.log_variance[[3]][0])
    expected = pairs.real.mean[[3]][0] + deviation * draws(1).posterior[0].numpy()
    np.testing.assert_allclose(drawn[0].numpy(), expected, rtol=1e-6)
    assert not torch.equal(drawn, mean)


@pytest.fixture(scope="module")
def both_ways(world: World, tmp_path_factory) -> Pairs:
    """Pairs whose sides are encoded plain and mirrored."""
    stage = world.stage(tmp_path_factory.mktemp("mirrored"))
    sample(world.sample_request(stage, loser_source="roundtrip", store_mirrored=True))
    return read_pairs(world.prompts, world.cache.latents, samples=stage, scaling=2.0, shift=0.5)


@pytest.mark.parametrize("sampled", [False, True])
def test_a_flip_reads_what_the_encoder_makes_of_the_mirrored_picture(both_ways: Pairs, sampled: bool) -> None:
    batch = [Visit(row, 0, 0) for row in range(8)]
    plain, flipped = draws(8), draws(8, flip=True)
    assert 0 < flipped.flipped.sum() < 8
    for latents, side in (
        (both_ways.real, both_ways.real_latents), (both_ways.generated, both_ways.generated_latents),
    ):  # fmt: skip
        assert latents is not None
        assert latents.mirrored is not None
        there = replace(both_ways, real=latents.mirrored(), generated=latents.mirrored())
        mirror = there.real_latents if latents is both_ways.real else there.generated_latents
        before, other = side(batch, plain, sampled=sampled), mirror(batch, plain, sampled=sampled)
        after = side(batch, flipped, sampled=sampled)
        for i, mirrored in enumerate(flipped.flipped.tolist()):
            assert torch.equal(after[i], other[i] if mirrored else before[i])
            assert not torch.equal(other[i], before[i].flip(-1))  # only near it
            assert not torch.equal(other[i], before[i])


def test_a_whole_batch_may_be_mirrored(both_ways: Pairs) -> None:
    batch, drawn = [Visit(3, 0, 0), Visit(1, 0, 0)], draws(2)
    drawn.flipped[:] = True
    assert both_ways.real.mirrored is not None
    expected = both_ways.real.mirrored().pick([3, 1], None)
    assert torch.equal(both_ways.real_latents(batch, drawn, sampled=False), expected)


def test_straight_latents_cannot_be_mirrored(pairs: Pairs) -> None:
    with pytest.raises(ArtifactError, match="holds no mirrored pictures"):
        pairs.generated_latents([Visit(row, 0, 0) for row in range(8)], draws(8, flip=True), sampled=False)


def test_mirrored_latents_are_not_opened_without_flips(world: World, sampled: StageFolder, tmp_path) -> None:
    for path in (world.cache.latents, world.cache.latents.with_name("real.parquet.manifest.json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    alone = read_pairs(world.prompts, tmp_path / "real.parquet", samples=sampled, scaling=1.0, shift=0.0)
    batch = [Visit(row, 0, 0) for row in range(8)]
    assert len(alone.real_latents(batch, draws(8), sampled=False)) == 8
    with pytest.raises(ArtifactError, match=r"real-mirrored\.parquet: is not there"):
        alone.real_latents(batch, draws(8, flip=True), sampled=False)


def test_an_image_that_was_never_planned_is_named(pairs: Pairs) -> None:
    with pytest.raises(ArtifactError, match=f"row {pairs.sample_ids[3]} has no generated image 1"):
        pairs.generated_latents([Visit(3, 0, 1)], draws(1), sampled=False)


def test_a_missing_shard_is_named(world: World, stage: StageFolder) -> None:
    stage.samples(0).unlink()
    with pytest.raises(ArtifactError, match=r"shard-00000\.parquet: file is missing; run again"):
        read_pairs(world.prompts, world.cache.latents, samples=stage, scaling=1.0, shift=0.0)


def test_a_shard_in_anothers_place_is_refused(world: World, tmp_path) -> None:
    stage = world.stage(tmp_path, shard_size=12)
    sample(world.sample_request(stage, [0, 1]))
    for source, target in ((stage.samples(0), stage.samples(1)),):
        target.write_bytes(source.read_bytes())
        name = f"{target.name}.manifest.json"
        target.with_name(name).write_bytes(source.with_name(f"{source.name}.manifest.json").read_bytes())
    with pytest.raises(ArtifactError, match="shard 1 holds other rows than its plan; spin-diffusion sample-shard"):
        read_pairs(world.prompts, world.cache.latents, samples=stage, scaling=1.0, shift=0.0)


def test_a_round_tripped_generated_image_is_drawn_from_its_posterior(world: World, tmp_path) -> None:
    stage = world.stage(tmp_path)
    sample(world.sample_request(stage, loser_source="roundtrip"))
    pairs = read_pairs(world.prompts, world.cache.latents, samples=stage, scaling=2.0, shift=0.5)
    assert pairs.generated is not None
    row = int(pairs.generated_rows[4, 0])
    mean = pairs.generated_latents([Visit(4, 0, 0)], draws(1), sampled=False)
    np.testing.assert_allclose(mean[0].numpy(), (pairs.generated.mean[[row]][0] - 0.5) * 2)
    drawn = pairs.generated_latents([Visit(4, 0, 0)], draws(1), sampled=True)
    again = replace(pairs.generated).pick([row], draws(1).posterior_generated)
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, mean)


def test_damaged_prompts_are_not_read(world: World, tmp_path) -> None:
    copy = tmp_path / "prompts.parquet"
    manifest = f"{world.prompts.name}.manifest.json"
    (tmp_path / manifest).write_bytes(world.prompts.with_name(manifest).read_bytes())
    copy.write_bytes(world.prompts.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="bytes differ"):
        read_pairs(copy, world.cache.latents, samples=None, scaling=1.0, shift=0.0)


def test_labelled_losers_stand_in_the_place_of_generated_images(world: World) -> None:
    pairs = read_pairs(
        world.prompts, world.cache.latents, samples=None, losers=world.cache.losers, scaling=2.0, shift=0.5
    )
    table = read_table(world.cache.losers)
    assert table["sample_id"].to_pylist() == pairs.sample_ids
    mean, log_variance = (read_tensors(table, f"latent_{name}")[[7]] for name in ("mean", "log_variance"))
    batch, drawn = [Visit(row=7, visit=5, draw=0)], draws(1)
    found = pairs.generated_latents(batch, drawn, sampled=False)
    assert np.array_equal(found.numpy(), (mean - 0.5) * 2.0)
    found = pairs.generated_latents(batch, drawn, sampled=True)
    expected = mean + np.exp(0.5 * log_variance) * drawn.posterior_generated.numpy()
    np.testing.assert_allclose(found.numpy(), (expected - 0.5) * 2.0, rtol=1e-5)
