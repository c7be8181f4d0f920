"""The class within which equal bits are promised, and the versions that a run records."""

from __future__ import annotations

import hashlib
import platform
import resource
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_CLASS: Final = (  # not who made it
    "device", "dtype", "batch_size", "threads", "compiled", "attention", "layout", "fused", "torch", "diffusers",
    "processes", "weights",
)  # fmt: skip
_BEFORE: Final = {
    "weights": "whole",
    "attention": "auto",
    "layout": "contiguous",
    "fused": False,
}  # of manifests that do not tell
PACKAGES: Final = ("torch", "diffusers", "transformers", "accelerate", "prefect", "datasets", "pyarrow", "numpy")


def versions() -> dict[str, str]:
    """Installed versions of what decides bits, without importing any of it."""
    found = {"python": platform.python_version(), "spin-diffusion": code_version()}
    return found | {package: installed(package) for package in PACKAGES}


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def code_version() -> str:
    """Version of this package, and a digest of the sources that decide numbers: all of spin/ but report and vote."""
    package = Path(__file__).parents[1]
    paths = {path.relative_to(package): path for path in package.rglob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(name for name in paths if name.parts[0] not in ("report", "vote")):
        digest.update(name.as_posix().encode() + b"\0" + paths[name].read_bytes() + b"\0")
    found = installed("spin-diffusion")
    return f"{'source' if found == 'not installed' else found}+{digest.hexdigest()[:12]}"


def cpu_model() -> str:
    """Model of the processor, because its vector units decide the bits; the architecture where it is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.machine()


def reset_peak() -> None:
    """From now on `peak_bytes` counts anew: from what this process holds now; without an effect where not Linux."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")


def peak_bytes() -> int:
    """The most memory that this process has had at once since `reset_peak`, as the system counts it.

    VmHWM, because ru_maxrss is inherited over fork and exec and cannot be reset; it is told where there is no /proc.
    """
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    except OSError:
        lines = []
    peaks = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return next(peaks, 0) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_clock(device: str) -> Callable[[], float]:
    """Seconds that a device worked: of a CPU those of this process, whatever else runs there; of a GPU the clock's."""
    return time.process_time if device == "cpu" else time.perf_counter


def bit_class(
    *, device: str, dtype: str, batch_size: int, threads: int, compiled: bool = False, attention: str = "auto"
) -> dict[str, object]:
    """What must be equal for two runs to give the same bits, besides the plan; and the host, for whoever searches."""
    return {
        "device": device if device != "cpu" else f"cpu {cpu_model()}",
        "dtype": dtype,
        "batch_size": batch_size,
        "threads": threads,
        "compiled": compiled,
        "attention": attention,
        "layout": layout_name(channels_last(dtype)),
        "torch": installed("torch"),
        "diffusers": installed("diffusers"),
        "host": socket.gethostname(),
    }


def channels_last(dtype: str, *, optimizer: str = "adamw", divided: bool = False) -> bool:
    """Whether convolutions' weights lie channels last in memory; their inputs follow.

    It is what half precision's kernels are made for, on a GPU's tensor cores and a CPU's bfloat16 alike; float32 gains
    nothing on a CPU, and keeps its bits.

    Args:
        dtype: of the weights, or of the autocast above them.
        optimizer: of a training: adamw_8bit makes weights contiguous in every step.
        divided: whether processes divide the weights: FSDP2 takes contiguous ones alone.
    """
    return dtype != "float32" and optimizer != "adamw_8bit" and not divided


def layout_name(is_last: bool) -> str:
    """As a class of equal bits has it."""
    return "channels last" if is_last else "contiguous"


def class_in(environment: Mapping[str, object]) -> dict[str, object]:
    """What of a manifest's environment must be equal for equal bits."""
    return {name: environment[name] for name in _CLASS if name in environment}


def other_class(here: Mapping[str, object], made: Mapping[str, object]) -> str:
    """Why bits may differ, in a few words; empty where both are of one class."""
    others = class_differences(here, made)
    return f"made where bits are others ({', '.join(others)})" if others else ""


def class_differences(here: Mapping[str, object], made: Mapping[str, object]) -> list[str]:
    """What makes two classes of equal bits two, in a few words each: `torch: 2.11.0 -> 2.13.0`."""
    before = {**_BEFORE, **made}
    names = [name for name in _CLASS if name in here and before.get(name) != here[name]]
    return [f"{name}: {before.get(name)} -> {here[name]}" for name in names]
