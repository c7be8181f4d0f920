from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from spin.diffusion.warm_cache import FOLDER

TAKE = """
import os, sys
from spin.diffusion.warm_cache import keep_warm
assert keep_warm() == keep_warm()
print(os.environ.get("TORCHINDUCTOR_CACHE_DIR"), flush=True)
sys.stdin.read()
"""


class Process:
    """A process that takes a folder and lives until the block ends."""

    def __init__(self, cache: Path, **environment: str) -> None:
        known = {name: value for name, value in os.environ.items() if name not in (FOLDER, "TRITON_CACHE_DIR")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**known, "XDG_CACHE_HOME": str(cache), **environment},
        )  # fmt: skip

    def __enter__(self) -> Path:
        assert self._process.stdout is not None
        return Path(self._process.stdout.readline().strip())

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def test_living_processes_have_a_folder_each_and_the_next_one_has_a_dead_ones(tmp_path: Path) -> None:
    folders = tmp_path / "spin-diffusion" / "compiled"
    with ExitStack() as living:
        with Process(tmp_path) as first:
            second = living.enter_context(Process(tmp_path))
            # started by the first, with its environment
            third = living.enter_context(Process(tmp_path, **{FOLDER: str(first)}))
        assert [first, second, third] == [folders / "0", folders / "1", folders / "2"]
        (first / "graph").write_text("compiled")
        assert living.enter_context(Process(tmp_path)) == first
        assert (first / "graph").read_text() == "compiled"


@pytest.mark.parametrize("cache", ["", "file"])
def test_a_folder_that_is_named_or_cannot_be_made_is_torchs_business(tmp_path: Path, cache: str) -> None:
    (tmp_path / "file").touch()
    own = {FOLDER: str(tmp_path / "mine")} if not cache else {}
    with Process(tmp_path / cache, **own) as found:
        assert found == (tmp_path / "mine" if own else Path("None"))
    assert not (tmp_path / "spin-diffusion").exists()
