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
from spin.diffusion.noise import TrainingDraws, training_draws
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
from spin.diffusion.text import TextEmbeddings
from spin.train.pairs import Pairs
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
class Step:
    """Computes the losses of some visits; holds what stays the same during a stage."""

    policy: Denoiser
    opponent: Denoiser | None
    pairs: Pairs
    text: TextEmbeddings
    schedule: Schedule
    settings: TrainingSettings
    run_seed: int
    stage: str
    device: str
    autocast: Callable[[], AbstractContextManager[None]]

    def measure(self, visits: Sequence[Visit]) -> Measured:
        """Losses of `visits`, with the policy's graph."""
        drawn = [self._draw(visits, repeat) for repeat in range(self.settings.timesteps_per_pair)]
        given, sampled = self._given(visits, drawn[0]), self.settings.posterior_sample
        real = self.pairs.real_latents(visits, drawn[0], sampled=sampled).to(self.device)
        if self.opponent is None:
            t, noise = self._times(drawn[0]), drawn[0].noise.to(self.device)
            with self.autocast():
                error = denoising_errors(self.policy, real, noise, t, given, self.schedule)
            return Measured(loss=sft_loss(real_policy=error), real=error)
        if self.settings.trajectory == "reverse":
            compared = [self._met(visits, draws, real, given) for draws in drawn]
        else:
            generated = self.pairs.generated_latents(visits, drawn[0], sampled=sampled).to(self.device)
            compared = [self._noised(draws, real, generated, given) for draws in drawn]
        return self._without_unsafe(self._over_timesteps(compared), visits)

    def _without_unsafe(self, measured: Measured, visits: Sequence[Visit]) -> Measured:
        """Pairs with an unsafe image count as pairs of the batch, and teach nothing."""
        if not self.pairs.unsafe:
            return measured
        return replace(measured, loss=measured.loss * self.pairs.weights(visits).to(self.device))

    def inputs(self, visits: Sequence[Visit]) -> dict[str, Tensor]:
        """What is read of the data for `visits`, (B, ...) each, by what people call it."""
        draws, sampled = self._draw(visits, 0), self.settings.posterior_sample
        found = {"real latents": self.pairs.real_latents(visits, draws, sampled=sampled)}
        if self.pairs.generated is not None:
            found["generated latents"] = self.pairs.generated_latents(visits, draws, sampled=sampled)
        given = self._given(visits, draws).tensors
        return found | {f"captions ({name})": values for name, values in given.items()}

    def _noised(self, draws: TrainingDraws, real: Tensor, generated: Tensor, given: Conditioning) -> Compared:
        """Both sides noised forward to one time step of each pair (Eq. C.6)."""
        t, noise = self._times(draws), draws.noise.to(self.device)
        other = noise if self.settings.noise == "shared" else draws.noise_generated.to(self.device)
        both = (torch.cat([real, generated]), torch.cat([noise, other]), torch.cat([t, t]))
        said, theirs = self._ask(self.schedule.noised(*both), both[2], Conditioning.cat([given, given]))
        return self._compare(said, theirs, self.schedule.wanted(*both), t)

    def _met(self, visits: Sequence[Visit], draws: TrainingDraws, real: Tensor, given: Conditioning) -> Compared:
        """The real side noised forward, the loser as the sampler met it on its own way (Eq. C.5).

        The opponent's own prediction, without guidance, is the target there: its error is exactly 0.
        """
        assert self.pairs.trajectories is not None
        rows = self.pairs.rows_of(visits)
        states, t = self.pairs.trajectories.at(rows, draws.timesteps, steps=self.schedule.steps)
        t, noise = t.to(self.device), draws.noise.to(self.device)
        x_t, wanted = self.schedule.noised(real, noise, t), self.schedule.wanted(real, noise, t)
        both = torch.cat([x_t, states.to(self.device)])
        said, theirs = self._ask(both, torch.cat([t, t]), Conditioning.cat([given, given]))
        return self._compare(said, theirs, torch.cat([wanted.float(), theirs.float().chunk(2)[1]]), t)

    def _ask(self, x_t: Tensor, t: Tensor, given: Conditioning) -> tuple[Tensor, Tensor]:
        """What policy and opponent say of the same noisy latents, (2B, C, h, w) each."""
        assert self.opponent is not None
        time = self.schedule.network_time(t)
        with self.autocast():
            said = self.policy(x_t, time, given)
            with torch.no_grad():
                return said, self.opponent(x_t, time, given)

    def _compare(self, said: Tensor, theirs: Tensor, wanted: Tensor, t: Tensor) -> Compared:
        """Errors of what policy and opponent said, the real side's rows first, and the margin of each pair."""
        settings = self.settings
        real, generated = squared_error(said, wanted).chunk(2)
        real_opponent, generated_opponent = squared_error(theirs, wanted).chunk(2)
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

    def _draw(self, visits: Sequence[Visit], repeat: int) -> TrainingDraws:
        return training_draws(
            [(self.pairs.sample_ids[visit.row], visit.visit) for visit in visits],
            run_seed=self.run_seed,
            stage=self.stage,
            shape=self.pairs.shape_of(visits[0]),
            timesteps=self.schedule.steps,
            caption_dropout=self.settings.caption_dropout,
            flip=self.settings.flip,
            repeat=repeat,
        )

    def _given(self, visits: Sequence[Visit], draws: TrainingDraws) -> Conditioning:
        given = self.text.of([self.pairs.prompt_hashes[visit.row] for visit in visits])
        return given.where(~draws.caption_dropped, self.text.empty)

    def _times(self, draws: TrainingDraws) -> Tensor:
        return self.schedule.times(draws.timesteps.to(self.device))


def _mean_over(parts: Sequence[Tensor]) -> Any:
    """Mean of (B,) values over the time steps of each pair; None where there are none."""
    return torch.stack(list(parts), dim=1).mean(dim=1) if parts else None
