"""One optimizer step's errors and losses: policy and opponent on one precision path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from spin.core.plan import Visit
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser, denoising_errors
from spin.diffusion.objectives import (
    approximate_loss,
    exact_loss,
    h2_weight,
    safeguard_factor,
    sft_loss,
    spin_loss,
    squared_error,
    with_scaled_gradient,
)
from spin.diffusion.schedules import Diffusion, Schedule
from spin.train.inputs import AtTime, Inputs, Reader
from spin.train.processes import Processes
from spin.train.request import TrainingSettings


@dataclass(frozen=True)
class Measured:
    """Per-sample values of one micro-batch, (B,) float32 each; opponent's and generated's only with spin."""

    loss: Tensor
    real: Tensor
    margin: Tensor | None = None
    generated: Tensor | None = None
    real_opponent: Tensor | None = None
    generated_opponent: Tensor | None = None
    jensen_gap: Tensor | None = None  # approximate minus exact loss; only with several time steps a pair
    loser_scale: Tensor | None = None  # factor of the loser's gradient; only with a safeguard

    @classmethod
    def join(cls, parts: Sequence[Measured]) -> Measured:
        """Values of all micro-batches in order, without their graphs."""

        def joined(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else torch.cat([value.detach() for value in values])

        return cls(*(joined(field.name) for field in fields(cls)))

    def first(self, count: int) -> Measured:
        """Values of the first `count` samples: the others filled the pass up, and no gradient comes from them."""
        if len(self.loss) == count:
            return self

        def counted(name: str) -> Any:
            values = getattr(self, name)
            return None if values is None else values[:count]

        return Measured(*(counted(field.name) for field in fields(self)))

    def over_processes(self, processes: Processes) -> Measured:
        """Values of the whole batch in its order, from those of this process's share; without graphs."""
        if processes.count == 1:
            return self
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        values = processes.join(torch.stack([getattr(self, name) for name in names]))
        return Measured(**dict(zip(names, values, strict=True)))


@dataclass(frozen=True)
class Compared:
    """What one time step of each pair gave, (B,) float32 each."""

    margin: Tensor
    real: Tensor
    generated: Tensor
    real_opponent: Tensor
    generated_opponent: Tensor
    factor: Tensor | None  # of the loser's gradient


@dataclass(frozen=True)
class Asked:
    """What the networks are asked of one time step of each pair, the real side's rows first."""

    x_t: Tensor  # (2B, C, h, w)
    times: Tensor  # (2B,)
    given: Conditioning
    wanted: Tensor  # (2B, C, h, w); (B, C, h, w), of the real side alone, where the opponent's answer is the rest


@dataclass(frozen=True)
class Step:
    """Computes the losses of some visits; holds what stays the same during a stage.

    From `measured` to the gradient nothing asks the device for a number: the host runs ahead of it.
    """

    policy: Denoiser
    opponent: Denoiser | None  # None for supervised training, or where its errors are stored
    reader: Reader
    schedule: Schedule
    settings: TrainingSettings
    device: str
    autocast: Callable[[], AbstractContextManager[None]]

    def measure(self, visits: Sequence[Visit]) -> Measured:
        """Losses of `visits`, with the policy's graph."""
        return self.measured(self.reader.read(visits))

    def measured(self, inputs: Inputs) -> Measured:
        """Losses of what was read, with the policy's graph."""
        here = self._moved(inputs)
        found = self._supervised(here) if self.settings.objective == "sft" else self._played(here)
        if here.weights is not None:  # pairs with an unsafe image count as pairs of the batch, and teach nothing
            found = replace(found, loss=found.loss * here.weights)
        return found.first(inputs.count)

    def _moved(self, inputs: Inputs) -> Inputs:
        return inputs.each(lambda values: values.to(self.device, non_blocking=True))

    def _supervised(self, inputs: Inputs) -> Measured:
        (at,) = inputs.at
        with self.autocast():
            error = denoising_errors(self.policy, inputs.real, at.noise, at.times, inputs.given, self.schedule)
        return Measured(loss=sft_loss(real_policy=error), real=error)

    def _played(self, inputs: Inputs) -> Measured:
        return self._over_timesteps([self._compared(inputs, at) for at in inputs.at])

    def _compared(self, inputs: Inputs, at: AtTime) -> Compared:
        asked = self._asked(inputs, at)
        said, wanted, theirs = self._answer(self.policy, asked), asked.wanted, at.theirs
        if theirs is None:
            assert self.opponent is not None
            with torch.no_grad():
                answer = self._answer(self.opponent, asked)
            if at.states is not None:  # without guidance: the opponent's error on its own way is exactly 0
                wanted = torch.cat([wanted.float(), answer.float().chunk(2)[1]])
            theirs = squared_error(answer, wanted)
        return self._compare(said, wanted, theirs, at.times)

    @torch.no_grad()
    def theirs(self, inputs: Inputs) -> Tensor:
        """The opponent's errors, (2K, B): of the real and of the generated side at each of K time steps."""
        assert self.opponent is not None
        here, found = self._moved(inputs), list[Tensor]()
        for at in here.at:
            asked = self._asked(here, at)
            found += squared_error(self._answer(self.opponent, asked), asked.wanted).chunk(2)
        return torch.stack(found)[:, : inputs.count]

    def _asked(self, inputs: Inputs, at: AtTime) -> Asked:
        """Both sides noised forward to one time step (Eq. C.6), or the loser as the sampler met it there (Eq. C.5)."""
        t, given = torch.cat([at.times, at.times]), Conditioning.cat([inputs.given, inputs.given])
        if at.states is not None:
            alone = (inputs.real, at.noise, at.times)
            x_t = torch.cat([self.schedule.noised(*alone), at.states])
            return Asked(x_t, t, given, self.schedule.wanted(*alone))
        assert inputs.generated is not None
        other = at.noise if at.noise_generated is None else at.noise_generated
        both = (torch.cat([inputs.real, inputs.generated]), torch.cat([at.noise, other]), t)
        return Asked(self.schedule.noised(*both), t, given, self.schedule.wanted(*both))

    def _answer(self, network: Denoiser, asked: Asked) -> Tensor:
        """What policy or opponent says, (2B, C, h, w)."""
        with self.autocast():
            return network(asked.x_t, self.schedule.network_time(asked.times), asked.given)

    def _compare(self, said: Tensor, wanted: Tensor, theirs: Tensor, t: Tensor) -> Compared:
        """Errors of what the policy said, beside the opponent's `theirs`, (2B,), and the margin of each pair."""
        settings = self.settings
        real, generated = squared_error(said, wanted).chunk(2)
        real_opponent, generated_opponent = theirs.chunk(2)
        factor = None
        if settings.safeguard is not None:
            factor = safeguard_factor(*(said.detach().float() - wanted.float()).chunk(2), mu=settings.safeguard)
        weight = None
        if settings.timestep_weight == "h2":
            assert isinstance(self.schedule, Diffusion)  # refused before, where the model is a flow
            weight = h2_weight(t, self.schedule.alphas_cumprod)
        spin = spin_loss(
            real_policy=real, real_opponent=real_opponent,
            generated_policy=generated if factor is None else with_scaled_gradient(generated, factor),
            generated_opponent=generated_opponent, beta=settings.beta, link=settings.link, weight=weight,
        )  # fmt: skip
        return Compared(spin.margin, real, generated, real_opponent, generated_opponent, factor)

    def _over_timesteps(self, found: Sequence[Compared]) -> Measured:
        """One loss for each pair from its margins at K time steps, and the means of everything else."""
        settings = self.settings
        margins = torch.stack([each.margin for each in found], dim=1)
        approximate, exact = (form(margins, settings.link) for form in (approximate_loss, exact_loss))
        real = _mean_over([each.real for each in found])
        loss = exact if settings.over_timesteps == "exact" else approximate
        return Measured(
            loss=loss + settings.sft_weight * settings.beta * real,  # the anchor holds alignment
            real=real,
            margin=margins.mean(dim=1),
            generated=_mean_over([each.generated for each in found]),
            real_opponent=_mean_over([each.real_opponent for each in found]),
            generated_opponent=_mean_over([each.generated_opponent for each in found]),
            jensen_gap=(approximate - exact).detach() if len(found) > 1 else None,
            loser_scale=_mean_over([each.factor for each in found if each.factor is not None]),
        )


def _mean_over(parts: Sequence[Tensor]) -> Any:
    """Mean of (B,) values over the time steps of each pair; None where there are none."""
    return torch.stack(list(parts), dim=1).mean(dim=1) if parts else None
