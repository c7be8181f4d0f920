"""The house as a whole: what imports what, and what every file must hold to."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("spin", "tasks", "flows", "configs")
GUARD = "spin.diffusion.torchvision_guard"
GUARDED = {"transformers", "diffusers", "peft", "open_clip"}
HEAVY = {"torch", "prefect", "diffusers", "transformers", "datasets", "scipy", "matplotlib"}


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_module_imports() -> None:
    names = [
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")
        if not module.name.endswith("__main__")
    ]
    assert len(names) > 100
    for name in names:
        importlib.import_module(name)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0), (["run", "--help"], 0), (["check", "miniature"], 0), (["config", "show", "miniature"], 0),
        (["config", "explain", "train.beta"], 0), (["check", "miniature", "--set", "train.beta=-1"], 2),
        (["query", "SELECT 1", "--root", "nowhere"], 2), (["lineage", "--help"], 0),
    ],
)  # fmt: skip
def test_what_only_reads_the_config_imports_neither_torch_nor_prefect(arguments: list[str], code: int) -> None:
    done = run(
        "import sys\n"
        f"sys.argv = ['spin-diffusion', *{arguments!r}]\n"
        "from flows.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code or 0\nelse:\n    code = 0\n"
        f"print('IMPORTED', sorted({HEAVY!r} & set(sys.modules)), code)"
    )
    assert done.stdout.splitlines()[-1:] == [f"IMPORTED [] {code}"], done.stdout + done.stderr


def test_the_core_the_report_the_doors_and_the_hall_import_without_torch() -> None:
    packages = ["spin/core", "spin/report", "tasks", "flows"]  # the last one imports all before it
    names = [module_name(path) for package in packages for path in sources(package) if path.stem != "__main__"]
    assert len(names) > 150
    done = run(
        "import importlib, sys\n"
        f"for name in {names!r}:\n    importlib.import_module(name)\n    assert 'torch' not in sys.modules, name\n"
        "print('all')"
    )
    assert done.stdout == "all\n", done.stderr


def test_requests_import_without_torch() -> None:
    names = [module_name(path) for path in sources("spin") if path.name == "request.py"]
    assert len(names) == 5
    done = run(f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\nprint('torch' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("path", sources("spin"), ids=shown)
def test_the_guard_is_the_first_import_of_a_module_that_needs_it(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    used = {name.split(".")[0] for node in ast.walk(tree) for name in imported(node)}
    if not used & GUARDED:
        return
    top = [name for node in tree.body for name in imported(node)]
    assert next(name for name in top if name != "__future__") == GUARD


def test_import_contracts_hold() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([command, "--no-cache"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", sources("spin", "tasks", "flows", "configs", "benchmarks"), ids=shown)
def test_code_is_ascii(path: Path) -> None:
    assert path.read_bytes().isascii()


@pytest.mark.parametrize("path", sources("spin", "tasks", "flows"), ids=shown)
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 320


def test_no_file_is_named_after_nothing() -> None:
    empty = re.compile(r"utils?|common|helpers?|manager|misc|base_.*")
    found = [shown(path) for path in sources(*PACKAGES) if empty.fullmatch(path.stem)]
    assert found == []


def test_prefect_is_imported_only_in_flows_and_tasks() -> None:
    for path in sources("spin", "configs"):
        tree = ast.parse(path.read_text("utf-8"))
        assert "prefect" not in {name.split(".")[0] for node in ast.walk(tree) for name in imported(node)}, shown(path)
