"""The kernel of the denoiser's attention, by name; torch's own choice where nobody names one.

VAE, text encoders and judges keep torch's choice: a VAE's one head of 512 channels has no flash kernel on CUDA.
No torch is imported at the top: what can be known without it is refused before anything is spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from spin.core.errors import ConfigError

_SETTING: Final = "execution.attention"
_ON_CPU: Final = ("auto", "flash", "math")
_HALF_ONLY: Final = ("flash", "cudnn")  # their kernels of CUDA are of float16 and bfloat16
_SIGNS: Final = ("No available kernel", "No viable backend for scaled_dot_product_attention")  # torch 2.11, 2.13


def refuse_missing_kernel(name: str, *, device: str, dtype: str) -> None:
    """ConfigError where a device has no such kernel, or none for the precision.

    Args:
        name: auto, flash, efficient, cudnn or math.
        dtype: of what comes into the attention: the networks', or their autocast's.
    """
    if device == "cpu" and name not in _ON_CPU:
        raise ConfigError(f"a CPU has no {name} kernel", where=_SETTING, fix=f"set it to {_or(_ON_CPU)}")
    if device != "cpu" and name in _HALF_ONLY and dtype == "float32":
        raise ConfigError(
            f"the {name} kernel is of half precision, execution.dtype is float32", where=_SETTING,
            fix="set it to auto, efficient or math, or execution.dtype to bfloat16",
        )  # fmt: skip


def has_kernel(name: str, *, device: str, dtype: str) -> bool:
    """Whether a device may have such a kernel for the precision."""
    try:
        refuse_missing_kernel(name, device=device, dtype=dtype)
    except ConfigError:
        return False
    return True


@contextmanager
def attending(name: str, *, device: str, dtype: str) -> Iterator[None]:
    """Attention by one kernel alone while the block runs, in all threads of this process.

    Raises ConfigError where there is none: at once where that can be known, else at the first attention, for a card
    that is too old or heads that are too wide.
    """
    refuse_missing_kernel(name, device=device, dtype=dtype)
    if name == "auto":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kernels = {
        "flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH,
    }  # fmt: skip
    try:
        with sdpa_kernel(kernels[name]):
            yield
    except RuntimeError as error:
        if not is_missing_kernel(error):
            raise
        raise ConfigError(
            f"the {name} kernel cannot do this model's attention on this {device} device in {dtype}", where=_SETTING,
            fix="set it to auto",
        ) from error  # fmt: skip


def is_missing_kernel(error: BaseException) -> bool:
    """Whether an error says that attention has no kernel; also one of a compiler, which repeats what it met."""
    return any(sign in str(error) for sign in _SIGNS)


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
