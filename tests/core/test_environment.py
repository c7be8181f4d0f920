from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from spin.core.environment import PACKAGES, bit_class, code_version, cpu_model, installed, versions

CLASS = {"device": "cpu", "dtype": "float32", "batch_size": 8, "threads": 1}


def test_versions_are_those_of_the_installed_packages() -> None:
    found = versions()
    assert set(found) == {"python", "spin-diffusion", *PACKAGES}
    assert found["python"] == platform.python_version()
    assert found["pyarrow"] == version("pyarrow")


def test_a_package_that_is_not_installed_is_said_so() -> None:
    assert installed("no-such-package-at-all") == "not installed"


def test_versions_are_told_without_importing_what_they_are_of() -> None:
    code = (
        "import sys; from spin.core.environment import versions, bit_class; versions();"
        "bit_class(device='cpu', dtype='float32', batch_size=8, threads=1);"
        "print(sorted({'torch', 'diffusers', 'transformers', 'prefect', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_class_of_equal_bits_differs_in_whatever_decides_bits() -> None:
    others = [
        {"device": "cuda"}, {"dtype": "bfloat16"}, {"batch_size": 4}, {"threads": 2}, {"compiled": True},
    ]  # fmt: skip
    found = [json.dumps(bit_class(**{**CLASS, **other})) for other in [{}, *others]]
    assert len(set(found)) == len(found)
    assert bit_class(**CLASS) == bit_class(**CLASS)


def test_a_processor_is_named_by_its_model() -> None:
    assert bit_class(**CLASS)["device"] == f"cpu {cpu_model()}"
    if "model name" in Path("/proc/cpuinfo").read_text("utf-8"):
        assert cpu_model() in Path("/proc/cpuinfo").read_text("utf-8")


def test_the_code_has_a_version() -> None:
    assert code_version() == versions()["spin-diffusion"] != ""
