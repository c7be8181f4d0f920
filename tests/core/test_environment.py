from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from spin.core import environment
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


def test_the_code_has_a_version_and_a_digest() -> None:
    assert code_version() == versions()["spin-diffusion"]
    assert re.fullmatch(rf"{re.escape(installed('spin-diffusion'))}\+[0-9a-f]{{12}}", code_version())


@pytest.mark.parametrize(
    ("name", "counts"),
    [("diffusion/sampler.py", True), ("core/new.py", True), ("report/page.py", False), ("miniature/weights/x", False)],
)
def test_sources_that_decide_numbers_are_in_the_digest(
    name: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "spin"
    shutil.copytree(Path(environment.__file__).parents[1], package, ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(environment, "__file__", str(package / "core" / "environment.py"))
    digest = code_version.__wrapped__
    assert digest() == code_version()
    with (package / name).open("a") as stream:
        stream.write("# edited\n")
    assert (digest() != code_version()) == counts
