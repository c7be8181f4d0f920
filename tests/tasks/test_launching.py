"""A room in a process of its own gives what it gives inline, and owns its GPU as long as it is open."""

from __future__ import annotations

import dataclasses
import fcntl
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from spin.core.config_execution import ExecutionConfig
from spin.core.errors import ConfigError, DataError
from spin.prepare.request import PrepareRequest, PrepareResult
from tasks.launching import card_memory, device_of, find_device, launch, open_room
from tests.core.test_door import assert_gone

pytestmark = pytest.mark.system


@pytest.fixture
def request_of(tmp_path: Path) -> PrepareRequest:
    from spin.miniature.packaged import packaged_pipeline_path

    return PrepareRequest(
        runs_root=tmp_path, run="tiny", source="miniature", path=None, image_column="image", caption_column="text",
        target="winners", rows=8, held_out_share=0.1, max_bad_share=0.1, max_image_pixels=10**8, resolution=None,
        base=packaged_pipeline_path(), base_digest="0" * 64, seed=0, device="cpu", threads=1,
    )  # fmt: skip


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two GPUs as far as their owners care: this machine need not have them."""
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-two,GPU-one")
    return tmp_path / "locks"


def children() -> list[psutil.Process]:
    """The rooms among this process's children."""
    return [child for child in psutil.Process().children() if any("spin." in word for word in child.cmdline())]


def is_held(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_process_gives_the_same_result_as_inline_and_tells_progress(request_of: PrepareRequest) -> None:
    told: list[tuple[int, int]] = []
    made = launch(
        "prepare", request_of, PrepareResult, inline=False, progress=lambda d, t, note="": told.append((d, t))
    )
    stood = launch("prepare", request_of, PrepareResult, inline=True)
    assert made.rows == stood.rows == {"train": 8, "validation": 128, "test": 256}
    assert (made.encoded, stood.encoded) == (392, 0)
    assert told[-1] == (392, 392)


def test_an_error_of_the_child_is_raised_with_its_kind_and_line(request_of: PrepareRequest) -> None:
    missing = dataclasses.replace(request_of, source="imagefolder", path=Path("/nowhere/pictures"))
    with pytest.raises(DataError, match="/nowhere/pictures"):
        launch("prepare", missing, PrepareResult, inline=False)


def test_one_process_serves_an_open_room_and_ends_with_the_block(request_of: PrepareRequest) -> None:
    missing = dataclasses.replace(request_of, source="imagefolder", path=Path("/nowhere/pictures"))
    with open_room("prepare", inline=False) as room:
        assert children() == []
        for _ in range(2):
            with pytest.raises(DataError):
                room.ask(missing, PrepareResult)
        (child,) = children()
        assert child.cmdline() == [sys.executable, "-P", "-m", "spin.prepare", "--resident", "--lifeline"]
        with pytest.raises(DataError):
            room.ask(missing, PrepareResult)
        assert children() == [child]
    assert_gone(child.pid)


def test_a_block_that_fails_ends_the_process_too(request_of: PrepareRequest) -> None:
    missing = dataclasses.replace(request_of, source="imagefolder", path=Path("/nowhere/pictures"))
    seen: list[psutil.Process] = []

    def ask_and_fail() -> None:
        with open_room("prepare", inline=False) as room:
            with pytest.raises(DataError):
                room.ask(missing, PrepareResult)
            seen.extend(children())
            raise KeyError

    with pytest.raises(KeyError):
        ask_and_fail()
    assert len(seen) == 1
    assert_gone(seen[0].pid)


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("name", "held"), [("sample", [True, False]), ("train", [True, True]), ("report", [False] * 2)]
)
def test_an_open_room_owns_its_gpus(locks: Path, name: str, held: list[bool], inline: bool) -> None:
    files = [locks / "gpu-GPU-two.lock", locks / "gpu-GPU-one.lock"]
    with open_room(name, inline=inline, device="cuda"):
        assert [is_held(path) for path in files] == held
    assert [is_held(path) for path in files] == [False, False]


def test_nobody_owns_a_gpu_for_a_room_on_the_cpu(locks: Path) -> None:
    with open_room("train", inline=True):
        assert not locks.exists()


def test_the_process_sees_the_gpu_that_is_owned_and_keeps_it_owned(request_of: PrepareRequest, locks: Path) -> None:
    missing = dataclasses.replace(request_of, source="imagefolder", path=Path("/nowhere/pictures"))
    with open_room("prepare", inline=False, device="cuda") as room:
        with pytest.raises(DataError):
            room.ask(missing, PrepareResult)
        (child,) = children()
        assert child.environ()["CUDA_VISIBLE_DEVICES"] == "GPU-two"
        opened = [path.readlink() for path in Path(f"/proc/{child.pid}/fd").iterdir()]
        assert locks / "gpu-GPU-two.lock" in opened


FLOW = """
import sys
from pathlib import Path
from spin.core.requests import from_json
from spin.train.request import TrainRequest, TrainResult
from tasks.launching import launch
request = from_json(TrainRequest, Path(sys.argv[1]))
launch("train", request, TrainResult, inline=True, progress=lambda done, total, note="": print(done, flush=True))
"""


@pytest.mark.slow
def test_two_processes_train_together_and_a_killed_flow_leaves_none_of_them(
    world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spin.core.layout import StageFolder
    from spin.core.requests import to_json
    from spin.core.store import is_intact
    from spin.train.request import TrainResult

    settings = {"objective": "sft", "beta": 0.0, "sft_weight": 0.0, "steps": 60, "state_every_steps": 1}
    request = world.train_request(StageFolder(tmp_path / "sft"), settings=settings, processes=2)
    (tmp_path / "request.json").write_bytes(to_json(request))
    command = [sys.executable, "-c", FLOW, str(tmp_path / "request.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as flow:
        assert flow.stdout is not None
        assert [flow.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
        family = [child.pid for child in psutil.Process(flow.pid).children(recursive=True)]
        assert len(family) >= 3  # torchrun and its two
        flow.kill()
        assert_gone(*family)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "random.py").write_text("raise SystemExit('shadowed')")
    result = launch("train", request, TrainResult, inline=True)
    assert 0 < result.steps <= 58
    assert is_intact(result.checkpoint)


def test_auto_takes_the_cpu_where_there_is_no_gpu() -> None:
    import torch

    assert find_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == "cpu"


def test_a_card_is_told_with_its_memory_or_not_at_all() -> None:
    found = card_memory()
    assert (found is None) == (find_device("auto") == "cpu")
    assert found is None or found[1] > 10**9


def test_a_device_that_is_found_must_have_the_kernel_of_the_attention() -> None:
    asked = ExecutionConfig(device="cpu", attention="cudnn")
    with pytest.raises(ConfigError, match="a CPU has no cudnn kernel"):
        device_of(asked)
    assert device_of(asked.model_copy(update={"executor": "workers"})) == "cpu"  # which only orders work
