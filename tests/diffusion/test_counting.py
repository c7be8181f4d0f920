"""Counts of SD-1.5 against the project's own numbers; the laws behind them on a model that is quickly counted."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spin.core.approximation import Approximation
from spin.core.counted import Drawing, Drawn, Learning, Passes, Trained
from spin.diffusion.architectures.known import packaged_architecture
from spin.diffusion.counting import (
    count_drawing,
    count_learning,
    count_looking,
    count_passes,
    count_preparing,
    count_sizes,
)
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.skeleton import Skeleton
from spin.miniature.packaged import packaged_pipeline_path
from tests.checkers import save_concept_checker

SUPERVISED = Trained(
    images=8, opponent=None, timesteps=1, lora_rank=None, lora_layers="attention", recompute=False,
    dtype="float32",
)  # fmt: skip
SELF_PLAY = replace(SUPERVISED, opponent="own")
GUIDED = Drawn(batch=2, guided=True, steps=20, scheduler="dpmsolver++", decoded=True, encodings=0, dtype="float32")
TERA = 1e12
SD15 = 859_520_964

Learn = Callable[[Trained], Learning]


@pytest.fixture(scope="module")
def sd15() -> Skeleton:
    known = packaged_architecture("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert known is not None
    return Skeleton.of(known.path)


@pytest.fixture(scope="module")
def passes(sd15: Skeleton) -> Passes:
    return count_passes(sd15)


@pytest.fixture(scope="module")
def small() -> Skeleton:
    return Skeleton.of(packaged_pipeline_path())


def test_one_pass_of_each_network(passes: Passes) -> None:
    assert passes.denoised.total / TERA == pytest.approx(0.803, rel=0.01)
    assert passes.encoded.total / TERA == pytest.approx(1.117, rel=0.01)
    assert passes.decoded.total / TERA == pytest.approx(2.515, rel=0.01)
    assert 0 < passes.prompt.total / TERA < 0.02


@pytest.mark.system
def test_torchs_own_counter_says_the_same_of_training(sd15: Skeleton) -> None:
    ask = Denoiser(sd15.network(), sd15.family)
    with FlopCounterMode(display=False) as counter:
        ask(sd15.latents(1), torch.zeros(1, device="meta"), sd15.prompts(1)).sum().backward()
    assert counter.get_total_flops() / TERA == pytest.approx(2.407, rel=0.01)
    assert count_learning(sd15, SUPERVISED).flops.total == pytest.approx(counter.get_total_flops(), rel=0.001)


def test_gradient_checkpointing_costs_another_forward_pass(sd15: Skeleton) -> None:
    anew = count_learning(sd15, replace(SUPERVISED, recompute=True))
    assert anew.flops.total / TERA == pytest.approx(3.002, rel=0.01)


@pytest.mark.system
def test_a_pair_in_half_precision_takes_what_others_have_measured(sd15: Skeleton) -> None:
    # The project's own numbers: 6.42 TFLOP a pair, 1.44 GB a latent, 40 pairs on an H200 (141 GB).
    pair = count_learning(sd15, replace(SELF_PLAY, dtype="bfloat16"))
    assert pair.flops.total / TERA == pytest.approx(6.42, rel=0.01)
    assert 1.2e9 < pair.image_bytes / 2 < 1.5e9
    policy_gradients_moments_opponent, copies = 20 * SD15, 2 * SD15
    assert 36 < (141e9 - policy_gradients_moments_opponent - copies) / pair.image_bytes < 48
    assert pair.pass_bytes == pytest.approx(8 * pair.image_bytes + copies, rel=0.01)


def test_an_adapter_trains_few_weights_and_saves_the_work_of_most_gradients(sd15: Skeleton) -> None:
    adapter = count_learning(sd15, replace(SUPERVISED, lora_rank=16))
    # four projections of rank 16 in both attentions of 16 blocks
    assert (adapter.trained, adapter.adapter) == (3_188_736, 3_188_736)
    assert adapter.flops.total / TERA < 0.75 * 2.407


@pytest.mark.parametrize(
    ("changes", "tera"),
    [
        ({}, 34.7),
        ({"decoded": False}, 32.1),
        ({"decoded": False, "guided": False}, 16.06),
        ({"scheduler": "pndm", "steps": 50}, 84.5),
        ({"scheduler": "edm"}, 65.1),  # 39 passes of two halves, 0.803 each
        ({"encodings": 1}, 35.8),
        ({"encodings": 2}, 36.9),
    ],
)
def test_a_picture_costs_its_solvers_passes(
    sd15: Skeleton, passes: Passes, changes: dict[str, object], tera: float
) -> None:
    found = count_drawing(sd15, replace(GUIDED, **changes), passes)  # type: ignore[arg-type]
    assert (found.denoised + found.vae).total / TERA == pytest.approx(tera, rel=0.01)


@pytest.mark.system
@pytest.mark.parametrize(
    ("approximation", "left"),
    [
        (Approximation((0.25, 0.75)), 30 / 40),  # 10 of 20 calls are guided
        # A call of the outermost blocks alone takes 0.38 of one; 7 of 20 calls are whole
        (Approximation(reuse_every=3), (7 + 13 * 0.38) / 20),
        # Whole are calls 0, 5, 10, 15, the middle two of them guided: 6 rows of 30, where exact sampling asks for 40
        (Approximation((0.25, 0.75), 5), (6 + 24 * 0.38) / 40),
    ],
)
def test_what_is_left_out_of_drawing_is_counted(
    sd15: Skeleton, passes: Passes, approximation: Approximation, left: float
) -> None:
    exact = count_drawing(sd15, replace(GUIDED, decoded=False), passes)
    found = count_drawing(sd15, replace(GUIDED, decoded=False, approximation=approximation), passes)
    assert exact.saved.total == 0
    assert found.denoised.total / exact.denoised.total == pytest.approx(left, rel=0.01)
    assert (found.saved + found.denoised).total == pytest.approx(exact.denoised.total)


def test_remembered_features_take_memory(small: Skeleton) -> None:
    passes = count_passes(small)
    plain, reusing = (
        count_drawing(small, replace(GUIDED, decoded=False, approximation=found), passes).batch_bytes
        for found in (Approximation(), Approximation(reuse_every=3))
    )
    assert reusing > plain


@pytest.mark.system
def test_memory_grows_with_what_a_pass_reads(small: Skeleton) -> None:
    def learn(trained: Trained) -> Learning:
        return count_learning(small, trained)

    pair = learn(SELF_PLAY)
    assert learn(replace(SELF_PLAY, images=16)).pass_bytes == pytest.approx(2 * pair.pass_bytes, rel=0.05)
    assert learn(replace(SELF_PLAY, timesteps=2)).pass_bytes == pytest.approx(2 * pair.pass_bytes, rel=0.05)
    assert learn(replace(SELF_PLAY, timesteps=2)).flops == pair.flops  # of a pair at one time step
    assert learn(replace(SELF_PLAY, recompute=True)).pass_bytes < 0.6 * pair.pass_bytes
    assert learn(replace(SELF_PLAY, images=64, dtype="bfloat16")).image_bytes < 0.85 * pair.image_bytes
    assert learn(SUPERVISED).pass_bytes < 0.6 * pair.pass_bytes


def test_every_kind_of_opponent_is_asked_alike(small: Skeleton) -> None:
    own, shared, stored = (
        count_learning(small, replace(SELF_PLAY, lora_rank=4, opponent=kind)).flops.total
        for kind in ("own", "shared", "stored")
    )
    assert own == stored == pytest.approx(shared, rel=0.001)


def test_a_stored_opponent_leaves_nothing_alive_in_a_pass(small: Skeleton) -> None:
    stored, own, images = (
        count_learning(small, replace(SELF_PLAY, opponent=kind)).pass_bytes for kind in ("stored", "own", None)
    )
    assert 1.8 * images < stored <= 2 * images  # a pair is two images, and no more
    assert stored <= own


def test_decoding_decides_the_memory_of_drawing(sd15: Skeleton, passes: Passes) -> None:
    def drawn(**changes: object) -> Drawing:
        return count_drawing(sd15, replace(GUIDED, **changes), passes)  # type: ignore[arg-type]

    latents, pictures = drawn(decoded=False), drawn()
    assert (latents.vae_bytes, pictures.vae_bytes) == (0, 4 * 83_653_863)
    assert pictures.batch_bytes > 2 * latents.batch_bytes
    # its config asks for float32 where float16 would overflow; bfloat16 would not
    half, brain = drawn(dtype="float16"), drawn(dtype="bfloat16")
    assert (half.vae_dtype, half.vae_bytes) == ("float32", 4 * 83_653_863)
    assert (brain.vae_dtype, brain.vae_bytes) == ("bfloat16", 2 * 83_653_863)
    # what is encoded again stands beside real pictures, which are encoded in float32
    back = drawn(dtype="bfloat16", encodings=1)
    assert (back.vae_dtype, back.vae_bytes) == ("float32", 4 * 83_653_863)
    assert back.batch_bytes > 1.5 * brain.batch_bytes


def test_memory_of_drawing_grows_with_the_batch(small: Skeleton) -> None:
    passes = count_passes(small)
    few, many = (count_drawing(small, replace(GUIDED, batch=batch), passes).batch_bytes for batch in (4, 8))
    assert many == pytest.approx(2 * few, rel=0.01)


def test_sizes_are_those_of_the_configs(sd15: Skeleton) -> None:
    sizes = count_sizes(sd15)
    assert (sizes.weights, sizes.vae_weights, sizes.text_weights) == (SD15, 83_653_863, 123_060_480)
    assert (sizes.latent, sizes.prompt, sizes.picture) == (4 * 64 * 64, 77 * 768, 512)
    assert sizes.all_weights == SD15 + 83_653_863 + 123_060_480


def test_preparing_holds_the_larger_of_text_and_pictures(small: Skeleton) -> None:
    few, many = (count_preparing(small, pictures=count, prompts=1) for count in (1, 64))
    assert many > few > 4 * count_sizes(small).vae_weights
    text = count_preparing(small, pictures=1, prompts=4096)
    assert text > 4 * count_sizes(small).text_weights


def test_the_published_safety_checker_is_clips_large_vision_tower(tmp_path: Path) -> None:
    published = count_looking(None)
    assert published.flops.total / TERA == pytest.approx(0.162, rel=0.01)
    assert published.weight_bytes == pytest.approx(1_215_981_830, rel=1e-3)  # its file on the hub
    assert count_looking(tmp_path) == published  # a base model without one
    save_concept_checker(tmp_path, threshold=0.0)
    own = count_looking(tmp_path)
    assert own.flops.total < 1e-3 * published.flops.total
    assert own.weight_bytes < 1e-3 * published.weight_bytes
