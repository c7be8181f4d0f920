"""What a stage needs to go on after a stop: weights, optimizer, average and the log so far."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spin.core.layout import StageFolder, step_name
from spin.core.schema import HELD_OUT_LOG, TIMING, TRAINING_LOG, read_table, write_rows
from spin.core.store import commit, discard, is_intact, is_whole
from spin.train.processes import Processes
from spin.train.sharding import divided_as, load_whole_state, whole, whole_state
from spin.train.update import Update

_KEPT: Final = 2
_MOVES: Final = "moves"


@dataclass
class Progressed:
    """How far a stage is, besides its tensors."""

    step: int = 0  # optimizer steps done
    log: list[dict[str, Any]] = field(default_factory=list)
    held_out: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return float(sum(row["seconds"] for row in self.timing))

    @property
    def device_seconds(self) -> float:
        return float(sum(row["device_seconds"] for row in self.timing))

    @property
    def stall_seconds(self) -> float:
        """Of those: waited for what passes read; of steps that older code made, none is known."""
        return float(sum(row.get("stall_seconds") or 0.0 for row in self.timing))


@dataclass(frozen=True)
class Tensors:
    denoiser: nn.Module  # the policy as it was loaded, not as the accelerator runs it
    update: Update  # its optimizer, and its scaler where it has one
    average: EMAModel | None

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """What trains, by name: all parameters, or the adapter's."""
        return {name: value for name, value in self.denoiser.named_parameters() if value.requires_grad}


def save_state(
    stage: StageFolder, tensors: Tensors, done: Progressed, identity: Mapping[str, Any], processes: Processes
) -> None:
    """Commit the state of step `done.step` and drop all but the last two; all processes gather, the first writes."""
    keep = processes.rank == 0
    trained = {name: whole(value.detach(), keep=keep) for name, value in tensors.trained.items()}
    shadows = [whole(shadow, keep=keep) for shadow in tensors.average.shadow_params] if tensors.average else []
    moments = whole_state(tensors.update.optimizer, keep=keep)

    def write(folder: Path) -> None:
        folder.mkdir()
        save_file({name: value.contiguous() for name, value in trained.items()}, folder / "denoiser.safetensors")
        torch.save(moments, folder / "optimizer.pt")
        if tensors.average is not None:
            save_file(_kept_average(tensors.average, shadows), folder / "average.safetensors")
        if tensors.update.scaler is not None:
            torch.save(tensors.update.scaler.state_dict(), folder / "scaler.pt")
        write_rows(folder / "log.parquet", TRAINING_LOG, done.log)
        write_rows(folder / "held-out.parquet", HELD_OUT_LOG, done.held_out)
        write_rows(folder / "timing.parquet", TIMING, done.timing)

    def keep_two() -> None:
        commit(stage.state(done.step), write, kind="training-state", identity=identity)
        for old in _states(stage)[:-_KEPT]:
            discard(stage.state(old))

    processes.once(keep_two)


def newest_state(stage: StageFolder, identity: Mapping[str, Any]) -> int:
    """Step of the newest whole state made from the same inputs, dropping newer ones; 0 where there is none."""
    for step in reversed(_states(stage)):
        state = stage.state(step)
        if is_whole(state, identity=identity) and is_intact(state):  # every byte hashed: it is read next
            return step
        discard(state)
    return 0


def load_state(stage: StageFolder, step: int, tensors: Tensors) -> Progressed:
    """Load the state of a step that `newest_state` found; step 0 is the start, as it was loaded."""
    if step == 0:
        return Progressed()
    folder = stage.state(step)
    weights = load_file(folder / "denoiser.safetensors")
    for name, parameter in tensors.trained.items():
        parameter.data.copy_(divided_as(weights[name], parameter.data))
    moments = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
    load_whole_state(tensors.update.optimizer, moments)
    if tensors.average is not None:
        _load_average(tensors.average, load_file(folder / "average.safetensors"), step)
    if tensors.update.scaler is not None:
        tensors.update.scaler.load_state_dict(torch.load(folder / "scaler.pt", weights_only=True))
    rows = (read_table(folder / f"{name}.parquet").to_pylist() for name in ("log", "held-out", "timing"))
    return Progressed(step, *rows)


def _kept_average(average: EMAModel, shadows: Sequence[Tensor]) -> dict[str, Tensor]:
    """The average by the place of each weight, and how often it moved: its decay goes by that."""
    kept = {str(place): shadow.contiguous() for place, shadow in enumerate(shadows)}
    return {**kept, _MOVES: torch.tensor(average.optimization_step)}


def _load_average(average: EMAModel, kept: Mapping[str, Tensor], step: int) -> None:
    """An average that was kept without its count moved at every step."""
    average.shadow_params = [divided_as(kept[str(i)], shadow) for i, shadow in enumerate(average.shadow_params)]
    average.optimization_step = int(kept.get(_MOVES, torch.tensor(step)))


def _states(stage: StageFolder) -> list[int]:
    if not stage.states.is_dir():
        return []
    prefix = step_name(0).rstrip("0")
    names = (path.name for path in stage.states.iterdir() if path.is_dir() and path.name.startswith(prefix))
    return sorted(int(name.removeprefix(prefix)) for name in names)
