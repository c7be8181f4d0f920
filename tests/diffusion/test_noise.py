from __future__ import annotations

from typing import Any

import torch

from spin.diffusion.noise import TrainingDraws, initial_noise, training_draws

SHAPE = (16, 4, 4)


def draws(*visits: tuple[str, int], **changes: Any) -> TrainingDraws:
    values = {
        "run_seed": 0,
        "stage": "iteration-01",
        "shape": SHAPE,
        "timesteps": 1000,
        "caption_dropout": 0.0,
        "flip": False,
    }
    return training_draws(visits, **{**values, **changes})


def test_an_image_has_its_noise_in_any_batch() -> None:
    together = initial_noise([11, 12, 13], SHAPE)
    assert together.shape == (3, *SHAPE)
    assert together.dtype == torch.float32
    assert torch.equal(initial_noise([13, 11], SHAPE), together[[2, 0]])
    assert not torch.equal(together[0], together[1])


def test_an_images_noise_is_unit_normal() -> None:
    noise = initial_noise(list(range(256)), SHAPE)
    assert abs(noise.mean().item()) < 0.02  # 65536 values: standard error 0.004
    assert abs(noise.std().item() - 1) < 0.02


def test_the_largest_seed_is_taken() -> None:
    assert initial_noise([(1 << 63) - 1], SHAPE).isfinite().all()


def test_diffusers_draws_the_same_noise_from_the_same_seed() -> None:
    from diffusers.utils.torch_utils import randn_tensor

    theirs = randn_tensor((1, *SHAPE), generator=[torch.Generator().manual_seed(11)])
    assert torch.equal(initial_noise([11], SHAPE), theirs)


def test_draws_are_a_function_of_the_visit_and_not_of_its_batch() -> None:
    visits = [("a", 0), ("b", 0), ("a", 1), ("c", 5)]
    together = draws(*visits)
    for i, visit in enumerate(visits):
        alone = draws(visit)
        for name in ("timesteps", "noise", "noise_generated", "posterior", "posterior_generated"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[i])


def test_every_part_of_the_identity_changes_the_draws() -> None:
    one = draws(("a", 0)).noise
    others = [
        draws(("b", 0)), draws(("a", 1)), draws(("a", 0), run_seed=1), draws(("a", 0), stage="iteration-02"),
    ]  # fmt: skip
    assert all(not torch.equal(other.noise, one) for other in others)


def test_the_four_noises_are_independent() -> None:
    many = draws(*((str(i), 0) for i in range(64)))
    columns = torch.stack([many.noise, many.noise_generated, many.posterior, many.posterior_generated]).flatten(1)
    correlation = torch.corrcoef(columns) - torch.eye(4)
    assert correlation.abs().max() < 0.05  # 16384 values: standard error 0.008


def test_options_change_what_is_used_and_never_what_others_draw() -> None:
    visits = [(str(i), 0) for i in range(8)]
    plain, with_options = draws(*visits), draws(*visits, caption_dropout=0.9, flip=True)
    for name in ("timesteps", "noise", "noise_generated", "posterior", "posterior_generated"):
        assert torch.equal(getattr(plain, name), getattr(with_options, name))
    assert not plain.caption_dropped.any()
    assert not plain.flipped.any()


def test_captions_drop_and_pictures_flip_as_often_as_asked() -> None:
    many = draws(*((str(i), 0) for i in range(400)), caption_dropout=0.25, flip=True)
    assert abs(many.caption_dropped.float().mean().item() - 0.25) < 0.09  # 4 standard errors of 0.022
    assert abs(many.flipped.float().mean().item() - 0.5) < 0.1
    more = draws(*((str(i), 0) for i in range(400)), caption_dropout=0.5)
    assert (more.caption_dropped | ~many.caption_dropped).all()  # who drops at 0.25 drops at 0.5


def test_timesteps_cover_the_schedule() -> None:
    steps = draws(*((str(i), 0) for i in range(400)), timesteps=10).timesteps
    assert steps.dtype == torch.int64
    assert set(steps.tolist()) == set(range(10))


def test_further_draws_of_a_visit_are_others_and_the_first_is_the_single_one() -> None:
    asked = {
        "run_seed": 0, "stage": "s", "shape": (1, 2, 2), "timesteps": 1000, "caption_dropout": 0.0, "flip": False,
    }  # fmt: skip
    visits = [("a", 0), ("b", 1)]
    single, first, second, third = (
        training_draws(visits, **asked, **more) for more in ({}, {"repeat": 0}, {"repeat": 1}, {"repeat": 2})
    )
    assert torch.equal(single.noise, first.noise)
    assert torch.equal(single.timesteps, first.timesteps)
    noises = torch.stack([first.noise, second.noise, third.noise]).flatten(1)
    assert len(noises.unique(dim=0)) == 3
    again = training_draws(visits[::-1], **asked, repeat=2)
    assert torch.equal(again.noise, third.noise.flip(0))
