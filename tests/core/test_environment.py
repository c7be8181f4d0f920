from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from spin.core import environment
from spin.core.environment import (
    PACKAGES,
    bit_class,
    class_differences,
    code_version,
    cpu_model,
    installed,
    peak_bytes,
    reset_peak,
    versions,
)

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
        {"attention": "math"},
    ]  # fmt: skip
    found = [json.dumps(bit_class(**{**CLASS, **other})) for other in [{}, *others]]
    assert len(set(found)) == len(found)
    assert bit_class(**CLASS) == bit_class(**CLASS)


def test_a_manifest_that_tells_no_kernel_was_made_with_torchs_own_choice() -> None:
    before = {name: value for name, value in bit_class(**CLASS).items() if name != "attention"}
    assert class_differences(bit_class(**CLASS), before) == []
    assert class_differences(bit_class(**CLASS, attention="math"), before) == ["attention: auto -> math"]


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


HELD = 64 * 2**20


def test_a_peak_is_of_what_was_held_at_once() -> None:
    reset_peak()
    before = peak_bytes()
    held = bytearray(HELD)
    del held
    assert peak_bytes() >= before + 0.9 * HELD


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux forgets a peak")
def test_a_peak_does_not_carry_what_was_held_and_freed_before() -> None:
    held = bytearray(HELD)
    carried = peak_bytes()
    del held
    reset_peak()
    assert peak_bytes() <= carried - 0.9 * HELD


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells it")
def test_a_peak_does_not_carry_what_the_parent_held() -> None:
    """ru_maxrss of a child begins at its parent's."""
    held = bytearray(4 * HELD)
    code = "from spin.core.environment import peak_bytes; print(peak_bytes())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) < len(held)


def test_without_proc_a_peak_is_that_of_the_whole_life(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError("/proc")

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    reset_peak()
    assert peak_bytes() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
