"""Gradients become weights; the path of float16 with torch's own scaler, which there is on a CPU too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spin.train.update import Update


def made(scale: float | None = None) -> Update:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    return Update([weight], torch.optim.SGD([weight], lr=0.5), scaler)


def descend(update: Update) -> tuple[float, list[float]]:
    """One step on half the squared weights; the norm of the gradient and the new weights."""
    (weight,) = update.parameters
    before = weight.tolist()
    update.backward(weight.square().sum() / 2)
    norm = update.clip(1e9)
    assert update.step() is (weight.tolist() != before)
    assert weight.grad is None
    return norm.item(), weight.tolist()


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_a_step_is_the_same_with_a_scale_and_without(scale: float | None) -> None:
    update = made(scale)
    assert descend(update) == (5.0, [1.5, 2.0])  # the gradient is the weight, its norm 5
    assert not update.is_lost


def test_clipping_is_of_the_gradient_itself_and_not_of_the_scaled_one() -> None:
    update = made(1024.0)
    (weight,) = update.parameters
    update.backward(weight.square().sum() / 2)
    assert update.clip(1.0).item() == 5.0
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))


def test_an_overflow_leaves_the_weights_and_halves_the_scale_until_it_fits() -> None:
    update = made(2.0**127)  # times 3 is more than float32 holds
    norm, weights = descend(update)
    assert (norm, weights) == (float("inf"), [3.0, 4.0])
    assert update.scaler is not None
    assert update.scaler.get_scale() == 2.0**126
    assert not update.is_lost
    while weights == [3.0, 4.0]:
        norm, weights = descend(update)
    assert (norm, weights) == (5.0, [1.5, 2.0])


def test_a_scale_below_one_is_lost() -> None:
    update = made(2.0)
    (weight,) = update.parameters
    lost = []
    for _ in range(3):
        update.backward(weight.sum() * float("inf"))
        update.clip(1.0)
        assert not update.step()
        lost.append(update.is_lost)
    assert lost == [False, True, True]  # 2 -> 1 -> 0.5 -> 0.25
    assert weight.tolist() == [3.0, 4.0]
