"""What one pass reads, on the host: drawn, picked and looked up before the device asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spin.core.plan import Visit
from spin.core.tensor_rows import TensorRows
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.noise import TrainingDraws, training_draws
from spin.diffusion.schedules import Schedule
from spin.diffusion.text import TextEmbeddings
from spin.train.pairs import Pairs
from spin.train.request import TrainingSettings


@dataclass(frozen=True)
class AtTime:
    """One time step of each pair or image."""

    times: Tensor  # (B,) int64, after the law of the schedule
    noise: Tensor  # (B, C, h, w), of the real side, and of the generated side where it is shared
    noise_generated: Tensor | None = None  # (B, C, h, w), where it is not
    states: Tensor | None = None  # (B, C, h, w), the losers as the sampler met them at these times
    theirs: Tensor | None = None  # (2B,) stored errors of the opponent, the real side's first; None where it is asked


@dataclass(frozen=True)
class Inputs:
    """All that a pass reads, (B, ...) each."""

    count: int  # of pairs or images; rows behind them fill the pass up and count for nothing
    real: Tensor  # (B, C, h, w) latents
    given: Conditioning
    at: tuple[AtTime, ...]
    generated: Tensor | None = None  # (B, C, h, w) latents; None where the losers are states, or there are none
    weights: Tensor | None = None  # (B,) float32, where some pairs do not count

    def each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """Every tensor changed: moved, or pinned."""

        def changed(values: Tensor | None) -> Any:
            return None if values is None else change(values)

        return Inputs(
            count=self.count,
            real=change(self.real),
            given=Conditioning({name: change(values) for name, values in self.given.tensors.items()}),
            at=tuple(
                AtTime(*map(changed, (at.times, at.noise, at.noise_generated, at.states, at.theirs))) for at in self.at
            ),
            generated=changed(self.generated),
            weights=changed(self.weights),
        )

    @property
    def data(self) -> dict[str, Tensor]:
        """What of it is read of the data, by what people call it."""
        losers = self.at[0].states if self.generated is None else self.generated
        found = {"real latents": self.real} | ({} if losers is None else {"generated latents": losers})
        return found | {f"captions ({name})": values for name, values in self.given.tensors.items()}


@dataclass(frozen=True)
class Errors:
    """Stored errors of an opponent on each reading of a stage."""

    values: TensorRows  # (N, 2K) float32: of the real and of the generated side at each of K time steps
    places: npt.NDArray[np.int64]  # (visits, rows): row of `values` for each reading of each row

    def of(self, visits: Sequence[Visit]) -> Tensor:
        """(K, 2B), the real side's first."""
        found = torch.from_numpy(self.values[[self.places[visit.visit, visit.row] for visit in visits]])
        return found.view(len(visits), -1, 2).permute(1, 2, 0).flatten(1)


@dataclass(frozen=True)
class Reader:
    """Reads the inputs of some visits: a function of their identity, whoever reads them and when."""

    pairs: Pairs
    text: TextEmbeddings  # on the host
    schedule: Schedule
    settings: TrainingSettings
    run_seed: int
    stage: str
    errors: Errors | None = None  # None: the opponent is asked, or there is none
    filled_to: int = 0  # rows of every pass, a smaller one being filled up; 0: as many as are asked for

    def read(self, visits: Sequence[Visit]) -> Inputs:
        """Inputs of visits to rows of one size."""
        settings = self.settings
        asked = [*visits, *[visits[-1]] * (self.filled_to - len(visits))]
        drawn = [self.draw(asked, repeat) for repeat in range(settings.timesteps_per_pair)]
        theirs = [None] * len(drawn) if self.errors is None else self.errors.of(asked)
        given = self.text.of([self.pairs.prompt_hashes[visit.row] for visit in asked])
        generated = settings.objective != "sft" and settings.trajectory == "forward"
        return Inputs(
            count=len(visits),
            real=self.pairs.real_latents(asked, drawn[0], sampled=settings.posterior_sample),
            given=given.where(~drawn[0].caption_dropped, self.text.empty),
            at=tuple(replace(self._at(asked, draws), theirs=said) for draws, said in zip(drawn, theirs, strict=True)),
            generated=self.pairs.generated_latents(asked, drawn[0], sampled=settings.posterior_sample)
            if generated
            else None,
            weights=self.pairs.weights(asked) if self.pairs.unsafe else None,
        )

    def draw(self, visits: Sequence[Visit], repeat: int) -> TrainingDraws:
        """All draws of some visits, for one of their time steps."""
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

    def _at(self, visits: Sequence[Visit], draws: TrainingDraws) -> AtTime:
        if self.settings.objective != "sft" and self.settings.trajectory == "reverse":
            assert self.pairs.trajectories is not None
            rows = self.pairs.rows_of(visits)
            states, times = self.pairs.trajectories.at(rows, draws.timesteps, steps=self.schedule.steps)
            return AtTime(times, draws.noise, states=states)
        other = draws.noise_generated if self.settings.noise == "independent" else None
        return AtTime(self.schedule.times(draws.timesteps), draws.noise, other)
