"""What the processes of a training divide among them instead of each holding all of it.

    optimizer   each keeps the moments of its part of the weights (ZeRO-1, arXiv 1910.02054): the bits of none
    full        each keeps a part of every weight, gradient and moment, and sees a block whole only while it is at
                work (ZeRO-3, by torch's FSDP2): gradients are added in another order, 1e-6

Nothing of it shows in a file: states and checkpoints hold whole tensors, so that a run goes on with another number of
processes, or divided otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

State = dict[str, Any]

_WAYS: Final = ("fused", "foreach")  # of an optimizer's step: of the device at hand, not of the one that made a state


def divide_network(network: Any, *, device: str) -> None:
    """Leave each process a part of every weight, of the network's own blocks one after the other.

    The blocks are those that diffusers says are never split over devices; what lies outside them is one more.
    """
    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    blocks = set(network._no_split_modules or ())
    inside = [module for module in network.modules() if type(module).__name__ in blocks]
    for module in [*reversed(inside), network]:  # the inner before the outer
        # Also of the whole network, which FSDP2 leaves whole after a forward pass: its weights are read between two.
        divided = cast(FSDPModule, fully_shard(module, mesh=mesh, reshard_after_forward=True))
        divided.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        divided.set_gradient_divide_factor(1.0)  # a loss is its share of the batch's mean already


def whole(values: Tensor, *, keep: bool = True) -> Tensor:
    """All of a tensor: itself, or where it is divided its parts put together on the CPU; every process must ask.

    Args:
        keep: whether this process wants it; it takes part in any case.
    """
    if not isinstance(values, DTensor):
        return values
    found = values.full_tensor()
    return found.cpu() if keep else found.new_empty(0, device="cpu")


def own(values: Tensor) -> Tensor:
    """What of a tensor this process holds."""
    return values.to_local() if isinstance(values, DTensor) else values


def divided_as(values: Tensor, like: Tensor) -> Tensor:
    """Whole values on the device of `like`, of which each process keeps its part where `like` is divided."""
    values = values.to(like.device)
    if not isinstance(like, DTensor):
        return values
    return distribute_tensor(values, like.device_mesh, like.placements, src_data_rank=None)  # all have read the file


def whole_state(optimizer: Optimizer, *, keep: bool) -> State:
    """An optimizer's state as if nothing were divided; every process must ask, and where `keep` is false gets none."""
    if isinstance(optimizer, ZeroRedundancyOptimizer):
        optimizer.consolidate_state_dict(to=0)
        return optimizer.state_dict() if keep else {}
    state = optimizer.state_dict()
    moments = {index: _each(held, lambda value: whole(value, keep=keep)) for index, held in state["state"].items()}
    return {**state, "state": moments}


def load_whole_state(optimizer: Optimizer, state: State) -> None:
    """Take up a whole state, of which this process keeps its part; how a step is computed stays this optimizer's."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = state["state"].items()
    state = {**state, "state": {index: _each(found, partial(_moment, parameters[index])) for index, found in held}}
    own_way = [{name: group[name] for name in _WAYS if name in group} for group in optimizer.param_groups]
    state["param_groups"] = [{**group, **way} for group, way in zip(state["param_groups"], own_way, strict=True)]
    optimizer.load_state_dict(state)
    if isinstance(optimizer, ZeroRedundancyOptimizer):
        optimizer.state.clear()  # it keeps what it was given beside what it works with


def held_bytes(optimizer: Optimizer) -> int:
    """Bytes of the moments that this process holds."""
    working = optimizer.optim if isinstance(optimizer, ZeroRedundancyOptimizer) else optimizer
    values = (value for held in working.state.values() for value in held.values())
    return sum(own(value).nbytes for value in values if isinstance(value, Tensor))


def _moment(like: Tensor, value: Tensor) -> Tensor:
    """A moment is divided and laid out as its weight, which a fused step asks for; a count of steps is not."""
    if value.shape != like.shape:
        return value
    if isinstance(like, DTensor):
        return divided_as(value, like)
    return value if value.stride() == like.stride() else torch.empty_like(like, dtype=value.dtype).copy_(value)


def _each(held: Mapping[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {name: change(value) if isinstance(value, Tensor) else value for name, value in held.items()}
