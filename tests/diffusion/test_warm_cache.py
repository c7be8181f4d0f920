from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from spin.core.environment import cpu_model, installed
from spin.diffusion.warm_cache import FOLDER

TAKE = """
import os, sys
from spin.diffusion.warm_cache import keep_warm
assert keep_warm() == keep_warm()
print(os.environ.get("TORCHINDUCTOR_CACHE_DIR"), os.environ.get("TRITON_CACHE_DIR"), flush=True)
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
        folder, self.triton = map(Path, self._process.stdout.readline().split())
        return folder

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def machine(cache: Path) -> Path:
    return cache / "spin-diffusion" / "compiled" / hashlib.sha256(cpu_model().encode()).hexdigest()[:12]


def test_living_processes_have_a_folder_each_and_the_next_one_has_a_dead_ones(tmp_path: Path) -> None:
    folders = machine(tmp_path) / installed("torch")
    with ExitStack() as living:
        with Process(tmp_path) as first:
            second = living.enter_context(Process(tmp_path))
            # started by the first, with its environment
            child = Process(tmp_path, **{FOLDER: str(first), "TRITON_CACHE_DIR": str(first / "triton")})
            third = living.enter_context(child)
            assert child.triton == third / "triton"
        assert [first, second, third] == [folders / "0", folders / "1", folders / "2"]
        (first / "graph").write_text("compiled")
        assert living.enter_context(Process(tmp_path)) == first
        assert (first / "graph").read_text() == "compiled"


def test_a_folder_of_tritons_that_is_named_stays(tmp_path: Path) -> None:
    process = Process(tmp_path, TRITON_CACHE_DIR=str(tmp_path / "mine"))
    with process as found:
        assert (found.name, process.triton) == ("0", tmp_path / "mine")


def test_what_other_versions_of_torch_compiled_is_dropped_unless_somebody_has_it(tmp_path: Path) -> None:
    other = machine(tmp_path) / "1.0"
    elsewhere = tmp_path / "spin-diffusion" / "compiled" / "another processor" / "1.0" / "0"
    for folder in (other / "0", other / "1", elsewhere):
        folder.mkdir(parents=True)
        folder.with_suffix(".lock").touch()
    with (other / "1.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with Process(tmp_path):
            assert [folder.exists() for folder in (other / "0", other / "1", elsewhere)] == [False, True, True]


def test_where_there_is_no_home_torch_keeps_its_own() -> None:
    with Process(Path(), XDG_CACHE_HOME="", HOME="~") as found:
        assert found == Path("None")


@pytest.mark.parametrize("cache", ["", "file"])
def test_a_folder_that_is_named_or_cannot_be_made_is_torchs_business(tmp_path: Path, cache: str) -> None:
    (tmp_path / "file").touch()
    own = {FOLDER: str(tmp_path / "mine")} if not cache else {}
    with Process(tmp_path / cache, **own) as found:
        assert found == (tmp_path / "mine" if own else Path("None"))
    assert not (tmp_path / "spin-diffusion").exists()
