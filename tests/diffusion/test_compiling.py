from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spin.core.requests import from_json, to_json
from spin.core.schema import read_table, read_tensors
from spin.core.store import discard, read_manifest
from spin.diffusion.compiling import CompiledNetwork, clear_broken_libraries
from spin.sample import opponent as opponents
from spin.sample.request import SampleResult
from spin.sample.room import run
from tests.world import World


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty compile cache of our own."""
    folder = tmp_path / "inductor"
    folder.mkdir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder / "triton"))
    torch._dynamo.reset()
    return folder


def plant_empty_library(cache: Path) -> Path:
    planted = cache / "ab" / "cabc.so"
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.touch()
    return planted


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """torch.compile replaced by one that fails at its first calls; holds how many failures are left."""
    left = [0]

    def compile_(network: nn.Module, **_: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if left[0]:
                left[0] -= 1
                raise RuntimeError("cannot open shared object file\nmore")
            return network(*args, **kwargs)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    return left


def test_without_compile_the_network_runs_as_it_is(compiler: list[int]) -> None:
    compiler[0] = 99
    network = nn.Linear(2, 2)
    eager = CompiledNetwork(network, enabled=False)
    assert torch.equal(eager(torch.ones(1, 2)), network(torch.ones(1, 2)))
    assert (eager.compiles, eager.notes) == (0, ())


def test_one_failure_clears_the_cache_and_compiles_again(cache: Path, compiler: list[int]) -> None:
    network = nn.Linear(2, 2)
    compiled = CompiledNetwork(network, enabled=True)
    planted = plant_empty_library(cache)
    compiler[0] = 1
    assert torch.equal(compiled(torch.ones(1, 2)), network(torch.ones(1, 2)))
    assert not planted.exists()
    assert compiled.notes == ()


def test_two_failures_run_eager_with_a_note(cache: Path, compiler: list[int]) -> None:
    network = nn.Linear(2, 2)
    compiled = CompiledNetwork(network, enabled=True)
    compiler[0] = 2
    assert torch.equal(compiled(torch.ones(1, 2)), network(torch.ones(1, 2)))
    assert compiled.notes == ("compile failed, ran eager: cannot open shared object file",)


def test_an_error_of_the_network_itself_is_not_hidden(cache: Path, compiler: list[int]) -> None:
    compiled = CompiledNetwork(nn.Linear(2, 2), enabled=True)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        compiled(torch.ones(1, 3))


def wrapped(error: Exception) -> Exception:
    """As a compiler raises it."""
    found = RuntimeError("the compiler failed")
    found.__cause__ = error
    return found


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), wrapped(MemoryError()),
        RuntimeError("backend='inductor' raised:\nRuntimeError: No available kernel. Aborting execution."),
    ],
)  # fmt: skip
def test_what_eager_lacks_as_well_is_no_failed_compile(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked: list[int] = []

    def call(*_: Any) -> Any:
        asked.append(1)
        raise error

    monkeypatch.setattr(torch, "compile", lambda *_, **__: call)
    compiled = CompiledNetwork(nn.Linear(2, 2), enabled=True)
    with pytest.raises(RuntimeError) as caught:
        compiled(torch.ones(1, 2))
    assert (caught.value, asked, compiled.notes) == (error, [1], ())


def test_only_empty_files_of_a_compile_are_cleared(cache: Path) -> None:
    planted = plant_empty_library(cache)
    whole, other = cache / "whole.so", cache / "lock"
    whole.write_bytes(b"library")
    other.touch()
    assert clear_broken_libraries() == 1
    assert not planted.exists()
    assert whole.exists()
    assert other.exists()
    assert clear_broken_libraries() == 0


@pytest.mark.slow
def test_a_real_compile_equals_eager_and_serves_all_shards(world: World, tmp_path: Path, cache: Path) -> None:
    plant_empty_library(cache)
    found = {}
    for compile_ in (False, True):
        stage = world.stage(tmp_path / str(compile_), shard_size=9)  # the last batches of all shards are padded
        for shard in range(3):
            result = run(world.sample_request(stage, [shard], compile=compile_, guidance_scale=3.0))
            assert result.notes == ()
        tables = [read_table(stage.samples(shard)) for shard in range(3)]
        found[compile_] = torch.cat([torch.from_numpy(read_tensors(table, "latent").copy()) for table in tables])
    (opponent,) = opponents._resident.values()
    assert opponent.network.compiles == 1
    torch.testing.assert_close(found[True], found[False], atol=1e-4, rtol=0)
    assert not torch.equal(found[True], found[False])  # it was really compiled
    manifest = read_manifest(stage.samples(2))
    assert manifest is not None
    assert manifest.environment["compiled"] is True
    assert (manifest.environment["compiles"], manifest.environment["shapes"]) == (1, 1)
    assert not torch._dynamo.utils.counters["graph_break"]  # one graph is the whole network
    assert [path for path in cache.rglob("*.so") if path.stat().st_size == 0] == []


@pytest.mark.slow
def test_libraries_that_a_killed_compile_left_empty_are_made_again(world: World, tmp_path: Path, cache: Path) -> None:
    """Empty files under the very names that the next compile looks for; each compile is a process of its own."""
    stage = world.stage(tmp_path)
    (tmp_path / "request.json").write_bytes(to_json(world.sample_request(stage, compile=True)))
    command = [sys.executable, "-m", "spin.sample", str(tmp_path / "request.json"), str(tmp_path / "result.json")]
    made = []
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True)
        assert from_json(SampleResult, tmp_path / "result.json").notes == ()
        made.append(stage.samples(0).read_bytes())
        discard(stage.samples(0))
        libraries = list(cache.rglob("*.so"))
        assert min(path.stat().st_size for path in libraries) > 0
        for library in libraries:
            library.write_bytes(b"")
    assert made[0] == made[1]


WARM = """
import sys
from pathlib import Path
from torch._dynamo.utils import counters
from spin.core.requests import from_json
from spin.sample.request import SampleRequest
from spin.sample.room import run
assert run(from_json(SampleRequest, Path(sys.argv[1]))).made == (0,)
print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


@pytest.mark.slow
def test_a_second_process_finds_what_the_first_one_compiled(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder that a process takes by itself, and that its successor takes after it."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stage = world.stage(tmp_path)
    (tmp_path / "request.json").write_bytes(to_json(world.sample_request(stage, compile=True)))
    found, made = [], []
    for _ in range(2):
        command = [sys.executable, "-c", WARM, str(tmp_path / "request.json")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append([int(word) for word in said.split()])
        made.append(stage.samples(0).read_bytes())
        discard(stage.samples(0))
    (cold_hits, cold_misses), (warm_hits, warm_misses) = found
    assert (cold_hits, warm_misses) == (0, 0)
    assert warm_hits == cold_misses > 0
    assert made[0] == made[1]


@pytest.mark.slow
def test_every_shape_of_many_is_compiled(cache: Path) -> None:
    """By itself torch compiles 8, and runs the ninth eager: which one would depend on the order of the shards."""
    network = CompiledNetwork(nn.Conv2d(1, 1, 3, padding=1), enabled=True)
    with torch.no_grad():
        for side in range(3, 14):
            assert network(torch.zeros(1, 1, side, 5)).shape == (1, 1, side, 5)
    assert (network.compiles, network.notes) == (11, ())
