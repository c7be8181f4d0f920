"""One optimizer step's errors and losses: policy and opponent on one precision path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from spin.core.plan import Visit
from spin.diffusion.noise import TrainingDraws, training_draws
from spin.diffusion.objectives import Schedule, denoising_errors, h2_weight, sft_loss, spin_loss
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
class Step:
    """Computes the losses of some visits; holds what stays the same during a stage."""

    policy: nn.Module
    opponent: nn.Module | None
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
        draws = self._draw(visits)
        text = self._text(visits, draws)
        sampled = self.settings.posterior_sample
        real = self.pairs.real_latents(visits, draws, sampled=sampled).to(self.device)
        t, noise = draws.timesteps.to(self.device), draws.noise.to(self.device)
        if self.opponent is None:
            with self.autocast():
                error = denoising_errors(self.policy, real, noise, t, text, self.schedule)
            return Measured(loss=sft_loss(real_policy=error), real=error)
        generated = self.pairs.generated_latents(visits, draws, sampled=sampled).to(self.device)
        other = noise if self.settings.noise == "shared" else draws.noise_generated.to(self.device)
        both = (torch.cat([real, generated]), torch.cat([noise, other]), torch.cat([t, t]), torch.cat([text, text]))
        with self.autocast():
            policy = denoising_errors(self.policy, *both, self.schedule)
            with torch.no_grad():
                opponent = denoising_errors(self.opponent, *both, self.schedule)
        return self._compare(policy, opponent, t)

    def _compare(self, policy: Tensor, opponent: Tensor, t: Tensor) -> Measured:
        real, generated = policy.chunk(2)
        real_opponent, generated_opponent = opponent.chunk(2)
        settings = self.settings
        weight = h2_weight(t, self.schedule.alphas_cumprod) if settings.timestep_weight == "h2" else None
        spin = spin_loss(
            real_policy=real, real_opponent=real_opponent, generated_policy=generated,
            generated_opponent=generated_opponent, beta=settings.beta, link=settings.link, weight=weight,
        )  # fmt: skip
        loss = spin.loss + settings.sft_weight * settings.beta * real  # the anchor holds alignment
        return Measured(loss, real, spin.margin, generated, real_opponent, generated_opponent)

    def _draw(self, visits: Sequence[Visit]) -> TrainingDraws:
        return training_draws(
            [(self.pairs.sample_ids[visit.row], visit.visit) for visit in visits],
            run_seed=self.run_seed,
            stage=self.stage,
            shape=self.pairs.shape,
            timesteps=self.schedule.steps,
            caption_dropout=self.settings.caption_dropout,
            flip=self.settings.flip,
        )

    def _text(self, visits: Sequence[Visit], draws: TrainingDraws) -> Tensor:
        text = self.text.of([self.pairs.prompt_hashes[visit.row] for visit in visits])
        dropped = draws.caption_dropped.to(text.device).view(-1, 1, 1)
        return torch.where(dropped, self.text.empty, text)
