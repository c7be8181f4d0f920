"""torch.compile with a way back: an interrupted compile leaves a 0-byte library that crashes the next one.

Static shapes, one compile per shape: in aspect-ratio buckets one for each. On failure the cache is cleared and the
compile tried once more; then the model runs eager and a note says so.

On a CPU torch 2.13 leaves out whole parts of a gradient without a word: what is scattered into zeros, as the backward
pass of an upsampling is, is read before it is there. `_keep_scatters` is the cure; besides, a training compares the
gradient of its first pass with the eager one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from spin.core.memory import comes_of_shortage
from spin.diffusion.attention import is_missing_kernel
from spin.diffusion.warm_cache import keep_warm

log = logging.getLogger(__name__)

# The most buckets that settings give, 1024 pixels in steps of 8 to a ratio of 16, are 193; of two networks.
_MOST_SHAPES: Final = 512


class CompiledNetwork:
    """Calls a network, compiled where asked; `compiles` counts graphs, `shapes` the inputs that ask for one each.

    `notes` tells what went wrong; `plain` is the network itself.
    """

    def __init__(self, network: nn.Module, *, enabled: bool) -> None:
        self.plain = network
        self._call: Callable[..., Any] = network
        self._attempts_left = 2 if enabled else 0
        self.compiles = 0
        self.shapes: set[tuple[int, ...]] = set()  # of the noisy latents
        self.notes: tuple[str, ...] = ()
        if enabled:
            keep_warm()
            _keep_scatters()
            clear_broken_libraries()
            self._call = self._compile()

    @property
    def config(self) -> Any:
        return self.plain.config

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                return self._call(*args, **kwargs)
            except Exception as error:  # any backend failure; re-raised once the model runs eager
                if not self.recover(error):
                    raise

    def recover(self, error: Exception) -> bool:
        """Compile once more, or run eager from now on; false where it does by now, and the error is another's.

        So is memory that ran out, and a kernel of attention that is not there: eager lacks them as well.
        A backward pass is compiled when it is first run: whoever runs it calls this of what it raises.
        """
        if self._attempts_left == 0 or comes_of_shortage(error) or is_missing_kernel(error):
            return False
        self._recover(error)
        return True

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Eager while the block runs."""
        kept = self._call, self._attempts_left
        self._call, self._attempts_left = self.plain, 0
        try:
            yield
        finally:
            self._call, self._attempts_left = kept

    def give_up(self, reason: str) -> None:
        """Run eager from now on."""
        self._attempts_left, self._call = 0, self.plain
        self.notes = (f"compile failed, ran eager: {reason[:200]}",)
        log.warning(self.notes[0])

    def _compile(self) -> Callable[..., Any]:
        from torch._dynamo.utils import counters

        # By its default of 8, torch would run further shapes eager, with other bits and without a word.
        for limit in ("recompile_limit", "accumulated_recompile_limit"):
            setattr(torch._dynamo.config, limit, max(getattr(torch._dynamo.config, limit), _MOST_SHAPES))
        compiled = torch.compile(self.plain, dynamic=False)

        def call(*args: Any, **kwargs: Any) -> Any:
            before = counters["stats"]["unique_graphs"]
            result = compiled(*args, **kwargs)
            self.shapes.add(tuple(args[0].shape))
            self.compiles += counters["stats"]["unique_graphs"] - before
            return result

        return call

    def _recover(self, error: Exception) -> None:
        self._attempts_left -= 1
        clear_broken_libraries()
        torch._dynamo.reset()
        if self._attempts_left:
            self._call = self._compile()
            return
        self.give_up(str(error).splitlines()[0] if str(error) else type(error).__name__)


@cache
def _keep_scatters() -> None:
    """Let a loop that is written anew for a CPU's kernel still know that it reads a buffer after its scatter."""
    from torch._inductor.scheduler import SchedulerNode
    from torch.compiler import config

    config.cache_key_tag += "scatters kept"  # what was compiled without is found no more
    recompute = SchedulerNode.recompute_size_and_body

    def recompute_and_rename(self: SchedulerNode, *args: Any, **kwargs: Any) -> None:
        recompute(self, *args, **kwargs)
        self.set_read_writes(self.read_writes.rename(self.mutation_renames))  # as pytorch's pull request 185873 does

    SchedulerNode.recompute_size_and_body = recompute_and_rename  # type: ignore[method-assign]


def clear_broken_libraries() -> int:
    """Remove empty files from the compile cache; how many there were."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or cache_dir())
    broken = [p for p in folder.rglob("*") if p.suffix in {".so", ".o", ".cpp", ".py"} and p.stat().st_size == 0]
    for path in broken:
        path.unlink(missing_ok=True)
    return len(broken)
