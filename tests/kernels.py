"""Which of torch's operations really run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch.utils._python_dispatch import TorchDispatchMode

FLASH: Final = "_scaled_dot_product_flash_attention_for_cpu"


class Heard(TorchDispatchMode):
    """Names of torch's operations, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name().split("::")[1].split(".")[0])
        return func(*args, **(kwargs or {}))


@contextmanager
def heard() -> Iterator[list[str]]:
    with Heard() as mode:
        yield mode.names
