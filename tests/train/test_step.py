from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spin.core.layout import StageFolder
from spin.core.plan import visits
from spin.diffusion.checkpoint import load_schedule
from spin.diffusion.objectives import LINKS
from spin.diffusion.schedules import add_noise
from spin.diffusion.text import TextEmbeddings
from spin.train.inputs import Reader
from spin.train.networks import load_networks
from spin.train.pairs import Pairs, Trajectories, read_pairs
from spin.train.step import Measured, Step
from tests.world import ROWS, World

MakeStep = Callable[..., Step]
BATCH = list(visits(rows=ROWS, count=8, draws=1, run_seed=0, stage="iteration-01"))


@pytest.fixture
def make_step(world: World, sampled: StageFolder) -> MakeStep:
    def make(*, dtype: str = "float32", **settings: Any) -> Step:
        request = world.train_request(sampled, settings={"beta": 5000.0, "sft_weight": 0.0, **settings}, dtype=dtype)
        networks = load_networks(request)
        samples = sampled if request.settings.objective == "spin" else None
        pairs = read_pairs(world.prompts, world.cache.latents, samples=samples, scaling=1.0, shift=0.0)
        text, schedule = TextEmbeddings.read(world.cache.text, device="cpu"), load_schedule(world.base, "cpu")
        return Step(
            policy=networks.policy,
            opponent=networks.opponent,
            reader=Reader(pairs, text, schedule, request.settings, 0, "iteration-01"),
            schedule=schedule,
            settings=request.settings,
            device="cpu",
            autocast=networks.accelerator.autocast if dtype != "float32" else nullcontext,
        )

    return make


def with_pairs(step: Step, pairs: Pairs) -> Step:
    return replace(step, reader=replace(step.reader, pairs=pairs))


def perturb(step: Step) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in step.policy.network.parameters():
            parameter.add_(1e-3 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("micro_batch", [1, 8])
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
@pytest.mark.parametrize("noise", ["shared", "independent"])
def test_a_policy_that_is_the_opponent_has_no_margin(
    make_step: MakeStep, dtype: str, micro_batch: int, gradient_checkpointing: bool, noise: str
) -> None:
    step = make_step(dtype=dtype, gradient_checkpointing=gradient_checkpointing, noise=noise)
    for start in range(0, 8, micro_batch):
        measured = step.measure(BATCH[start : start + micro_batch])
        assert measured.margin is not None
        assert measured.loss.requires_grad
        assert {measured.loss.dtype, measured.margin.dtype, measured.real.dtype} == {torch.float32}
        assert measured.margin.tolist() == [0.0] * micro_batch
        assert measured.loss.tolist() == [torch.tensor(2.0).log().item()] * micro_batch
    assert torch.tensor(2.0).log().item() == pytest.approx(math.log(2))


def test_bfloat16_is_really_used(make_step: MakeStep) -> None:
    exact, rounded = (make_step(dtype=dtype).measure(BATCH).real for dtype in ("float32", "bfloat16"))
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0.1, atol=0.01)


def test_the_first_gradient_pulls_to_real_and_pushes_from_generated(make_step: MakeStep) -> None:
    step = make_step()
    step.measure(BATCH).loss.mean().backward()
    with torch.no_grad():
        for parameter in step.policy.network.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-4 * parameter.grad / 100)
    measured = step.measure(BATCH)
    assert measured.margin is not None
    assert measured.margin.mean() > 0


def test_the_opponent_is_frozen(make_step: MakeStep) -> None:
    step = make_step()
    step.measure(BATCH).loss.sum().backward()
    assert step.opponent is not None
    assert all(p.grad is None for p in step.opponent.network.parameters())
    assert any(p.grad is not None for p in step.policy.network.parameters())


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_values_do_not_depend_on_the_micro_batch(make_step: MakeStep, gradient_checkpointing: bool) -> None:
    step = make_step(gradient_checkpointing=gradient_checkpointing)
    perturb(step)
    whole = step.measure(BATCH)
    parts = Measured.join([step.measure([visit]) for visit in BATCH])
    for name in ("loss", "real", "margin", "generated", "real_opponent", "generated_opponent"):
        # an error is float32, rounded at 6e-8; the margin is beta / 2 = 500 times a difference of four of them
        tolerance = 1e-4 if name in ("loss", "margin") else 1e-6
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=tolerance)
    assert whole.margin is not None
    assert whole.margin.abs().min() > 0


def test_gradient_checkpointing_changes_no_gradient(make_step: MakeStep) -> None:
    found = []
    for gradient_checkpointing in (False, True):
        step = make_step(gradient_checkpointing=gradient_checkpointing)
        perturb(step)
        step.measure(BATCH).loss.mean().backward()
        found.append([p.grad for p in step.policy.network.parameters()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_swapping_real_and_generated_flips_the_sign(make_step: MakeStep) -> None:
    step = make_step(posterior_sample=False)
    perturb(step)
    pairs = step.reader.pairs
    assert pairs.generated is not None
    order = pairs.generated_rows[:, 0]
    swapped = replace(
        pairs,
        real=replace(pairs.generated, log_variance=None, places=order),
        generated=replace(pairs.real, log_variance=None),
        generated_rows=np.arange(len(pairs.sample_ids), dtype=np.int32)[:, None],
    )
    one, two = step.measure(BATCH), with_pairs(step, swapped).measure(BATCH)
    assert one.margin is not None
    assert two.margin is not None
    torch.testing.assert_close(two.margin, -one.margin, rtol=1e-4, atol=1e-5)
    assert one.margin.abs().min() > 0


def test_the_anchor_adds_its_share_of_the_real_error(make_step: MakeStep) -> None:
    plain, anchored = (make_step(sft_weight=weight).measure(BATCH) for weight in (0.0, 0.03))
    torch.testing.assert_close(anchored.loss, plain.loss + 0.03 * 5000 * plain.real)


def test_independent_noise_moves_only_the_generated_side(make_step: MakeStep) -> None:
    shared, independent = (make_step(noise=noise).measure(BATCH) for noise in ("shared", "independent"))
    torch.testing.assert_close(shared.real, independent.real)
    assert shared.generated is not None
    assert independent.generated is not None
    assert (shared.generated != independent.generated).all()


def test_the_h2_weight_scales_each_margin(make_step: MakeStep) -> None:
    from spin.diffusion.noise import training_draws
    from spin.diffusion.objectives import h2_weight

    constant, weighted = make_step(), make_step(timestep_weight="h2")
    perturb(constant)
    perturb(weighted)
    ids = constant.reader.pairs.sample_ids
    t = training_draws(
        [(ids[v.row], v.visit) for v in BATCH], run_seed=0, stage="iteration-01", shape=(16, 4, 4), timesteps=1000,
        caption_dropout=0, flip=False,
    ).timesteps  # fmt: skip
    one, two = constant.measure(BATCH).margin, weighted.measure(BATCH).margin
    torch.testing.assert_close(two, h2_weight(t, constant.schedule.alphas_cumprod) * one)


def test_supervised_training_is_the_plain_error(make_step: MakeStep) -> None:
    sft, spin = make_step(objective="sft").measure(BATCH), make_step().measure(BATCH)
    assert sft.margin is None
    assert sft.generated is None
    assert torch.equal(sft.loss, sft.real)
    torch.testing.assert_close(sft.real, spin.real, rtol=1e-5, atol=1e-6)


def test_a_dropped_caption_is_dropped_for_the_pair_and_both_networks(make_step: MakeStep) -> None:
    seen: list[torch.Tensor] = []
    step = make_step(caption_dropout=0.5)
    for network in (step.policy, step.opponent):
        assert network is not None
        network.network.register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
        )
    step.measure(BATCH)
    policy, opponent = seen
    assert torch.equal(policy, opponent)
    assert torch.equal(policy[:8], policy[8:])
    empty = (policy[:8] == step.reader.text.empty.tensors["embedding"]).all(dim=2).all(dim=1)
    assert 0 < empty.sum() < 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
@pytest.mark.parametrize("layers", ["attention", "all"])
def test_a_fresh_adapter_has_no_margin_and_trains_alone(
    make_step: MakeStep, dtype: str, gradient_checkpointing: bool, layers: str
) -> None:
    step = make_step(
        dtype=dtype, gradient_checkpointing=gradient_checkpointing, lora_rank=4, lora_alpha=4.0, lora_layers=layers
    )
    measured = step.measure(BATCH)
    assert measured.margin is not None
    assert measured.margin.tolist() == [0.0] * 8
    assert measured.loss.tolist() == [torch.tensor(2.0).log().item()] * 8
    measured.loss.mean().backward()
    parameters = step.policy.network.named_parameters()
    grown = {name for name, p in parameters if p.grad is not None and p.grad.abs().sum() > 0}
    assert grown
    assert all(".lora_B." in name for name in grown)  # B is 0, so nothing reaches A yet


def test_the_opponent_of_an_adapter_is_the_start_whatever_the_adapter_has_learned(make_step: MakeStep) -> None:
    plain, step = make_step(), make_step(lora_rank=4, lora_alpha=4.0)
    with torch.no_grad():
        for name, parameter in step.policy.network.named_parameters():
            if ".lora_B." in name:
                parameter.fill_(0.05)
    expected, measured = plain.measure(BATCH), step.measure(BATCH)
    assert measured.margin is not None
    assert measured.margin.abs().min() > 0
    assert torch.equal(measured.real_opponent, expected.real_opponent)
    assert torch.equal(measured.generated_opponent, expected.generated_opponent)


@pytest.mark.parametrize("link", ["logistic", "hinge", "correlation"])
def test_exact_is_the_loss_of_the_mean_margin_and_never_above_approximate(make_step: MakeStep, link: str) -> None:
    found = {}
    for form in ("approximate", "exact"):
        step = make_step(over_timesteps=form, timesteps_per_pair=3, link=link)
        perturb(step)
        found[form] = step.measure(BATCH)
    approximate, exact = found["approximate"], found["exact"]
    assert torch.equal(approximate.margin, exact.margin)
    torch.testing.assert_close(exact.loss, LINKS[link](exact.margin))
    assert approximate.jensen_gap is not None
    torch.testing.assert_close(approximate.jensen_gap, (approximate.loss - exact.loss).detach(), atol=1e-5, rtol=1e-4)
    assert approximate.jensen_gap.min() >= -1e-5
    assert (approximate.jensen_gap.max() > 1e-3) == (link != "correlation")  # a straight line has no gap


def test_one_time_step_a_pair_is_the_first_of_several(make_step: MakeStep) -> None:
    one, three = make_step(), make_step(timesteps_per_pair=3)
    drawn = three.reader.draw(BATCH, 0)
    assert torch.equal(one.reader.draw(BATCH, 0).timesteps, drawn.timesteps)
    assert not torch.equal(three.reader.draw(BATCH, 1).timesteps, drawn.timesteps)
    single, several = one.measure(BATCH), three.measure(BATCH)
    assert single.jensen_gap is None
    assert single.real.shape == several.real.shape == (8,)
    assert not torch.equal(single.real, several.real)
    assert several.margin is not None
    assert several.margin.tolist() == [0.0] * 8
    assert several.loss.tolist() == [torch.tensor(2.0).log().item()] * 8


def test_the_values_of_several_time_steps_are_their_means(make_step: MakeStep) -> None:
    step = make_step(timesteps_per_pair=2, sft_weight=0.03, over_timesteps="exact")
    perturb(step)
    measured = step.measure(BATCH)
    inputs = step.reader.read(BATCH)
    parts = [step._compared(inputs, at) for at in inputs.at]
    margin, error = ((getattr(parts[0], name) + getattr(parts[1], name)) / 2 for name in ("margin", "real"))
    torch.testing.assert_close(measured.margin, margin)
    torch.testing.assert_close(measured.loss, -torch.nn.functional.logsigmoid(margin) + 0.03 * 5000 * error)


def test_a_safeguard_changes_the_gradient_and_no_value(make_step: MakeStep) -> None:
    gradients, found = [], []
    for safeguard in (None, 0.9):
        step = make_step(safeguard=safeguard)
        perturb(step)
        found.append(step.measure(BATCH))
        found[-1].loss.mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in step.policy.network.parameters() if p.grad is not None]))
    plain, guarded = found
    assert torch.equal(plain.loss, guarded.loss)
    assert torch.equal(plain.margin, guarded.margin)
    assert plain.loser_scale is None
    assert guarded.loser_scale is not None
    assert ((guarded.loser_scale >= 0) & (guarded.loser_scale <= 1)).all()
    assert guarded.loser_scale.min() < 0.5
    assert not torch.allclose(*gradients)


@pytest.fixture
def make_reverse(make_step: MakeStep) -> MakeStep:
    """A step whose opponent went three states to each of its images."""

    def make(**settings: Any) -> Step:
        step = make_step(trajectory="reverse", **settings)
        generator = torch.Generator().manual_seed(0)
        states = torch.randn(ROWS, 3, *step.reader.pairs.real.shape_of(0), generator=generator).numpy()
        ways = Trajectories(states, torch.tensor([999, 666, 333]))
        return with_pairs(step, replace(step.reader.pairs, trajectories=ways))

    return make


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("adapter", [{}, {"lora_rank": 4, "lora_alpha": 4.0}])
def test_on_the_opponents_own_way_the_loser_has_no_error_at_the_start(
    make_reverse: MakeStep, dtype: str, adapter: dict[str, Any]
) -> None:
    measured = make_reverse(dtype=dtype, **adapter).measure(BATCH)
    assert measured.generated is not None
    assert measured.generated_opponent is not None
    assert measured.generated.tolist() == measured.generated_opponent.tolist() == [0.0] * 8
    assert measured.loss.tolist() == [torch.tensor(2.0).log().item()] * 8


def test_the_reverse_margin_is_the_bracket_of_c5(make_reverse: MakeStep) -> None:
    step = make_reverse(posterior_sample=False, caption_dropout=0.0)
    perturb(step)
    measured, drawn, (visit, *_) = step.measure(BATCH), step.reader.draw(BATCH, 0), BATCH
    assert step.reader.pairs.trajectories is not None
    place = int(drawn.timesteps[0]) * 3 // 1000
    t = torch.tensor([[999, 666, 333][place]])
    row = int(step.reader.pairs.generated_rows[visit.row, visit.draw])
    state = torch.from_numpy(step.reader.pairs.trajectories.states[row, place])[None]
    real = step.reader.pairs.real.pick([visit.row], None)
    x_t = add_noise(real, drawn.noise[:1], t, step.schedule.alphas_cumprod)
    text = step.reader.text.of([step.reader.pairs.prompt_hashes[visit.row]])
    with torch.no_grad():
        said = [
            [network.network(x, t, encoder_hidden_states=text.tensors["embedding"]).sample for x in (x_t, state)]
            for network in (step.policy, step.opponent)
            if network is not None
        ]
    (policy, moved), (opponent, kept) = said
    winner = ((policy - drawn.noise[:1]) ** 2).mean() - ((opponent - drawn.noise[:1]) ** 2).mean()
    expected = -0.5 * 5000 * (winner - ((kept - moved) ** 2).mean())
    assert measured.margin is not None
    assert measured.margin[0].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-3)
    assert measured.generated_opponent is not None
    assert measured.generated_opponent.abs().max() == 0


def test_a_state_and_its_timestep_are_drawn_together() -> None:
    states = torch.arange(12.0).view(2, 3, 2, 1, 1).numpy()
    ways = Trajectories(states, torch.tensor([999, 666, 333]))
    found, t = ways.at([1, 0, 1], torch.tensor([0, 334, 999]), steps=1000)
    assert t.tolist() == [999, 666, 333]
    assert found.flatten(1).tolist() == [[6.0, 7.0], [2.0, 3.0], [10.0, 11.0]]
