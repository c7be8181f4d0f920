from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from spin.core.layout import StageFolder
from spin.core.store import is_whole
from spin.train.processes import Processes
from spin.train.state import Progressed, Tensors, load_state, newest_state, save_state
from spin.train.update import Update

IDENTITY = {"run_seed": 0}
ALONE = Processes("cpu")


def tensors(seed: int = 0, *, average: bool = True) -> Tensors:
    """A small network after one optimizer step."""
    torch.manual_seed(seed)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    parameters = list(network.parameters())
    mean = EMAModel(parameters, decay=0.9) if average else None
    if mean is not None:
        mean.step(parameters)
    return Tensors(network, Update(parameters, optimizer), mean)


def progressed(step: int) -> Progressed:
    log = [{"step": i, "loss": 0.1 * i} for i in range(1, step + 1)]
    timing = [{"step": i, "seconds": 0.5, "images_per_second": 16.0} for i in range(1, step + 1)]
    return Progressed(step, log, [{"step": 0, "timestep": 100, "error": 0.1, "error_start": 0.1}], timing)


def load_newest_state(stage: StageFolder, tensors: Tensors, identity: dict[str, Any]) -> Progressed:
    return load_state(stage, newest_state(stage, identity), tensors)


def values(found: Tensors) -> list[Any]:
    moments = [moment for state in found.update.optimizer.state_dict()["state"].values() for moment in state.values()]
    shadows = [] if found.average is None else found.average.shadow_params
    return [*found.denoiser.state_dict().values(), *moments, *shadows]


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    return StageFolder(tmp_path / "iteration-01")


@pytest.mark.parametrize("average", [False, True])
def test_a_state_comes_back_bit_for_bit(stage: StageFolder, average: bool) -> None:
    saved, fresh = tensors(0, average=average), tensors(1, average=average)
    save_state(stage, saved, progressed(3), IDENTITY, ALONE)
    done = load_newest_state(stage, fresh, IDENTITY)
    assert done.step == 3
    assert [row["loss"] for row in done.log] == [row["loss"] for row in progressed(3).log]
    assert done.held_out == progressed(3).held_out
    assert done.seconds == 1.5
    assert all(torch.equal(one, two) for one, two in zip(values(saved), values(fresh), strict=True))
    if fresh.average is not None:
        assert fresh.average.optimization_step == 1  # of its own: it stands still where a step is skipped


def test_only_the_last_two_states_are_kept(stage: StageFolder) -> None:
    for step in (2, 4, 6):
        save_state(stage, tensors(), progressed(step), IDENTITY, ALONE)
    assert sorted(path.name for path in stage.states.iterdir() if path.is_dir()) == ["step-000004", "step-000006"]


def test_steps_of_seven_digits_are_in_order(stage: StageFolder) -> None:
    for step in (999_999, 1_000_000):
        save_state(stage, tensors(), Progressed(step), IDENTITY, ALONE)
    assert load_newest_state(stage, tensors(), IDENTITY).step == 1_000_000


@pytest.mark.parametrize("damage", ["no manifest", "one bit"])
def test_a_damaged_state_falls_back_to_the_one_before(stage: StageFolder, damage: str) -> None:
    save_state(stage, tensors(0), progressed(2), IDENTITY, ALONE)
    save_state(stage, tensors(1), progressed(4), IDENTITY, ALONE)
    if damage == "no manifest":
        (stage.states / "step-000004.manifest.json").unlink()
    else:
        file = stage.state(4) / "optimizer.pt"
        data = bytearray(file.read_bytes())
        data[-100] ^= 1
        file.write_bytes(data)
    fresh = tensors(2)
    assert load_newest_state(stage, fresh, IDENTITY).step == 2
    assert torch.equal(fresh.denoiser.weight, tensors(0).denoiser.weight)
    assert not stage.state(4).exists()


def test_a_state_of_other_inputs_is_not_taken(stage: StageFolder) -> None:
    save_state(stage, tensors(), progressed(2), IDENTITY, ALONE)
    assert load_newest_state(stage, tensors(), {"run_seed": 1}).step == 0
    assert not is_whole(stage.state(2))


def test_without_a_state_it_begins_at_the_start(stage: StageFolder) -> None:
    assert load_newest_state(stage, tensors(), IDENTITY) == Progressed()
