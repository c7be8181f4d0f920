from __future__ import annotations

import hashlib
import os
import signal
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started deaf, and hands it on


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run in one process, and all of tests/flows in the same: one Prefect server, one finished run.

    Where `--dist` asks for something else than xdist's default, that is done.
    """
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "tests/flows" if path.startswith("tests/flows/") else path

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Equal bits and a fair share of a small machine; a test without torch does not import it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    from spin.core import store

    names: list[str] = []
    really = store.hash_file

    def hash_file(path: Path) -> str:
        names.append(path.name)
        return really(path)

    monkeypatch.setattr(store, "hash_file", hash_file)
    return names


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory):
    """The miniature's data, encoded once by the packaged pipeline: 24 train, 128 validation, 256 test rows."""
    from spin.miniature.packaged import packaged_pipeline_path
    from tests.world import make_world

    return make_world(tmp_path_factory.mktemp("runs"), packaged_pipeline_path())


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory):
    """The saved tiny pipeline of a kind of `tests.families`, to read and not to write to."""
    from tests.families import build

    root = tmp_path_factory.mktemp("pipelines")

    def folder(kind: str) -> Path:
        if not (root / kind).exists():
            build(kind).save_pretrained(root / kind)
        return root / kind

    return folder


@pytest.fixture(scope="session")
def sampled(world, tmp_path_factory: pytest.TempPathFactory):
    """A first iteration whose one shard is sampled: 24 images of 4 solver steps."""
    from spin.sample.room import run

    stage = world.stage(tmp_path_factory.mktemp("sampled"))
    run(world.sample_request(stage, num_inference_steps=4))
    return stage


@pytest.fixture
def stage(sampled, tmp_path: Path):
    """A copy of the sampled iteration, free to write to."""
    from tests.world import copy_stage

    return copy_stage(sampled, tmp_path)


@pytest.fixture(scope="session", autouse=True)
def packaged_files_stay_as_they_are():
    """No test may change the weights that ship."""
    weights = Path(str(files("spin.miniature"))) / "weights"

    def digests() -> dict[Path, str]:
        shipped = [path for path in weights.rglob("*") if path.is_file()]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in shipped}

    before = digests()
    yield
    assert digests() == before
