"""What a batch gave, and its way into the host's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

import torch
from torch import Tensor

from spin.core.errors import SamplingError
from spin.sample.request import SampleRequest

_NAMED: Final = 8  # sample ids in an error line


@dataclass(frozen=True)
class Drawn:
    """What one batch gave, (B, ...) each: latents, and where asked for pictures and their posterior."""

    latents: Tensor
    pictures: Tensor | None = None
    mean: Tensor | None = None
    log_variance: Tensor | None = None
    mean_mirrored: Tensor | None = None  # of the mirrored pictures
    log_variance_mirrored: Tensor | None = None
    unsafe: Tensor | None = None  # (B,) bool, by the safety checker
    trajectory: Tensor | None = None  # (B, S, C, h, w), the solver's state at each of its S steps
    timesteps: Tensor | None = None  # (B, S) int32, where these are; the same for all rows
    finite: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)  # (B,) bool: latents, pictures, posteriors

    def landing(self, sample_ids: Sequence[str]) -> Landing:
        """Send the first rows, those of `sample_ids`, to the host; what lies behind is padding."""
        count, values = len(sample_ids), {f.name: getattr(self, f.name) for f in fields(self) if f.name != "finite"}
        sent = {name: _sent(value[:count]) for name, value in values.items() if value is not None}
        finite = {name: _sent(flags[:count]) for name, flags in self.finite.items()}
        landed = None
        if self.latents.is_cuda:
            landed = torch.cuda.Event()
            landed.record()
        return Landing(Drawn(**sent, finite=finite), tuple(sample_ids), landed)


@dataclass(frozen=True)
class Landing:
    """A batch on its way to the host; its device goes on with the next one meanwhile."""

    _drawn: Drawn
    sample_ids: tuple[str, ...]
    _landed: torch.cuda.Event | None  # None: it was never elsewhere

    @property
    def is_here(self) -> bool:
        """Whether nobody has to wait for it."""
        return self._landed is None or self._landed.query()

    def wait(self) -> Drawn:
        """The batch in the host's memory."""
        if self._landed is not None:
            self._landed.synchronize()
        return self._drawn

    def refuse_not_finite(self, request: SampleRequest) -> None:
        """Nothing of a batch is kept where one of its images is not finite: training would meet it at some step."""
        for what, flags in self.wait().finite.items():
            broken = [name for name, ok in zip(self.sample_ids, flags.tolist(), strict=True) if not ok]
            if broken:
                more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
                raise SamplingError(
                    f"{what} of {len(broken)} images hold NaN or infinity; samples {', '.join(broken[:_NAMED])}{more}",
                    where=str(request.opponent),
                    fix=f"none of the shard is kept; {_way_out(request)}",
                )


def finite_rows(values: Tensor) -> Tensor:
    """Which rows hold neither NaN nor infinity, (B,) bool, told on their device: asking for it would stop it."""
    return values.flatten(1).isfinite().all(dim=1)


def _sent(values: Tensor) -> Tensor:
    """On the host at once, or as soon as the device's stream comes by; only pinned memory lets the device go on."""
    if not values.is_cuda:
        return values
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)


def _way_out(request: SampleRequest) -> str:
    if request.dtype == "float32":
        return "the model itself gives them: begin with another, or train it with a lower lr"
    return "set execution.dtype to " + ("bfloat16" if request.dtype == "float16" else "float32")
