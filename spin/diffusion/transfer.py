"""From the host to the device without making the host wait."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: str | torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor on a device, in a precision.

    To a GPU the copy is queued behind what that still works on, from pinned memory: from any other the host would wait
    for all of it, and the GPU then for what the host does next.
    """
    values = values.to(dtype)  # here: half the bytes to copy
    if torch.device(device).type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
