"""Deep features of a UNet reused in neighbouring calls: DeepCache, arXiv 2312.00858, at the border of whole blocks.

Between calls only the outermost blocks run: what comes up from below them changes slowly from one solver step to the
next. diffusers' own forward stays the only caller of all blocks; the deep ones answer from memory where told to.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from spin.diffusion.compiling import CompiledNetwork

Forward = Callable[..., Any]


@dataclass
class DeepFeatures:
    """Whether the deep blocks run in the next call, and what they last gave."""

    computed: bool = True
    last: Tensor | None = None


@contextmanager
def reusing_deep_features(network: Any) -> Iterator[DeepFeatures]:
    """All blocks of a UNet but the outermost two can be left out while this holds.

    Args:
        network: a UNet2DConditionModel of two levels or more, or the same within a CompiledNetwork that is eager.

    Yields:
        DeepFeatures; with `computed` False a call takes the answer of the last one, of an equal batch, in their place.
    """
    unet: Any = network.plain if isinstance(network, CompiledNetwork) else network
    features = DeepFeatures()
    with ExitStack() as stack:
        for block in unet.down_blocks[1:]:
            stack.enter_context(_answering(block, _going_down(block.forward, features)))
        if unet.mid_block is not None:
            stack.enter_context(_answering(unet.mid_block, _passing(unet.mid_block.forward, features)))
        for block in unet.up_blocks[:-2]:
            stack.enter_context(_answering(block, _passing(block.forward, features)))
        stack.enter_context(_answering(unet.up_blocks[-2], _coming_up(unet.up_blocks[-2].forward, features)))
        yield features


@contextmanager
def _answering(block: nn.Module, forward: Forward) -> Iterator[None]:
    """Another forward for a block; the old one is its class's, or one that a hook gave it."""
    own = vars(block).get("forward")
    block.forward = forward
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own


def _going_down(run: Forward, features: DeepFeatures) -> Forward:
    """A block that gives residuals: skipped, as many as it has, which nobody reads."""
    residuals = 0

    def forward(hidden_states: Tensor, *rest: Any, **more: Any) -> Any:
        nonlocal residuals
        if not features.computed:
            return hidden_states, (hidden_states,) * residuals
        answer = run(hidden_states, *rest, **more)
        residuals = len(answer[1])
        return answer

    return forward


def _passing(run: Forward, features: DeepFeatures) -> Forward:
    def forward(hidden_states: Tensor, *rest: Any, **more: Any) -> Any:
        return run(hidden_states, *rest, **more) if features.computed else hidden_states

    return forward


def _coming_up(run: Forward, features: DeepFeatures) -> Forward:
    """The last deep block: its answer is all that the outermost ones see of the depth."""

    def forward(hidden_states: Tensor, *rest: Any, **more: Any) -> Any:
        if features.computed:
            features.last = run(hidden_states, *rest, **more)
        return features.last

    return forward
