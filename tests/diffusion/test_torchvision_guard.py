from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS_GUARD = {"transformers", "diffusers", "peft", "open_clip"}


def test_every_module_that_imports_diffusers_imports_the_guard_first() -> None:
    for path in (ROOT / "spin").rglob("*.py"):
        names = [name for name in _imports(path) if name.split(".")[0] != "__future__"]
        needing = [i for i, name in enumerate(names) if name.split(".")[0] in NEEDS_GUARD]
        if needing:
            assert names[0] == "spin.diffusion.torchvision_guard", path


@pytest.mark.system
def test_libraries_import_behind_the_guard() -> None:
    libraries = "torchvision, transformers, diffusers, bitsandbytes"
    program = f"import spin.diffusion.torchvision_guard as g; g.install(); import {libraries}; print('well')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "well", done.stderr[-500:]
    assert "kernels-community" not in done.stderr  # of bitsandbytes, on a CPU with bfloat16 of its own


def _imports(path: Path) -> list[str]:
    """Names imported when the module is, in order."""
    found: list[str] = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found
