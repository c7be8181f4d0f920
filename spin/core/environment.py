"""The class within which equal bits are promised, and the versions that a run records."""

from __future__ import annotations

import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from typing import Final

PACKAGES: Final = ("torch", "diffusers", "transformers", "accelerate", "prefect", "datasets", "pyarrow", "numpy")


def versions() -> dict[str, str]:
    """Installed versions of what decides bits, without importing any of it."""
    found = {"python": platform.python_version(), "spin-diffusion": code_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def code_version() -> str:
    try:
        return version("spin-diffusion")
    except PackageNotFoundError:
        return "source"


def bit_class(*, device: str, dtype: str, batch_size: int, threads: int, compiled: bool = False) -> dict[str, object]:
    """What must be equal for two runs to give the same bits, besides the plan."""
    return {
        "device": device if device != "cpu" else f"cpu {platform.machine()}",
        "dtype": dtype,
        "batch_size": batch_size,
        "threads": threads,
        "compiled": compiled,
        "torch": versions()["torch"],
        "diffusers": versions()["diffusers"],
        "host": socket.gethostname(),
    }
