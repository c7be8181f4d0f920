"""The README names every module, and what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("flows", "tasks", "spin", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if not path.name.startswith("__")
)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_stands_in_the_tree(module: Path) -> None:
    indent = "    " * len(module.parts[:-1])
    assert re.search(rf"^{indent}(    )?{re.escape(module.name)} ", README, re.MULTILINE)


def test_what_the_readme_links_to_is_there() -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert "docs/grid.png" in targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"@[A-Z]+@", README) == []
