"""Lets torchvision import beside a CPU-only torch; the first import of every module that needs it.

torchvision's wheel links CUDA. Beside a CPU-only torch its extension cannot load and the import dies
with "operator torchvision::nms does not exist", and with it transformers, diffusers, peft and
open_clip. Declaring the two schemas first is enough: nothing here calls those operators.

diffusers imports bitsandbytes wherever it is installed, which on some CPUs tells every command of kernels for 4-bit
weights that it lacks; nothing here has such, so that this one logger speaks of errors only.
"""

from __future__ import annotations

import logging

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None  # must outlive the process: deletion unregisters


def install() -> None:
    """Declare torchvision's operators, only where its own extension cannot load; safe to repeat."""
    global _library
    if _library is not None or torch.version.cuda is not None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _forget_half_imported_torchvision()
        _library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            _library.define(schema)
    except ImportError:
        return


def _forget_half_imported_torchvision() -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
install()
