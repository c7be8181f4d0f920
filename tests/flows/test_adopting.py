"""Of which class adopted work must be: all that this process can tell, and one class for the shards of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from flows import adopting
from flows.adopting import adopt_samples, samples_place, training_place
from flows.requests import Requests
from spin.core.config import load_config
from spin.core.environment import class_in, code_version, cpu_model
from spin.core.layout import StageFolder
from spin.core.store import commit, read_manifest, stands
from spin.train.room import run as train
from tests.world import World, copy_stage

IDENTITY = {"opponent": "b"}
CARD = "NVIDIA A100"


def requests_of(root: Path, *overrides: str, device: str = "cpu") -> Requests:
    own = ["run.name=second", f"run.root={root}", "execution.adopt=true"]
    return Requests(load_config("miniature", overrides=[*own, *overrides]), device)


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's card, where the work is for one."""
    monkeypatch.setattr(adopting, "card_name", lambda: CARD)


@pytest.mark.parametrize(
    ("device", "overrides", "bits", "kind"),
    [
        ("cpu", [], f"cpu {cpu_model()}", ""),
        ("cuda", [], f"cuda {CARD}", ""),
        ("cpu", ["execution.executor=workers", "execution.device=cpu"], f"cpu {cpu_model()}", ""),
        ("cpu", ["execution.executor=workers", "execution.device=cuda"], None, "cuda"),
        ("cpu", ["execution.executor=workers"], None, ""),
    ],
)
def test_the_device_is_asked_for_where_this_process_can_tell_it(
    tmp_path: Path, device: str, overrides: list[str], bits: str | None, kind: str
) -> None:
    place = samples_place(requests_of(tmp_path, *overrides, device=device))
    assert (place.bits.get("device"), place.device) == (bits, kind)
    others = {"dtype", "batch_size", "threads", "compiled", "attention", "layout", "torch", "diffusers"}
    assert place.bits.keys() == others | ({"device"} if bits else set())


def test_images_of_another_batch_size_are_not_taken_on_a_gpu(tmp_path: Path) -> None:
    place = samples_place(requests_of(tmp_path, "sampling.batch_size=7", device="cuda"))
    assert place.bits["batch_size"] == 7


@pytest.mark.parametrize(
    ("overrides", "processes", "batch_size"),
    [
        ([], 2, 8),
        (["execution.executor=workers", "execution.train_processes=2"], 2, 8),
        (["execution.executor=workers"], None, None),  # as many as the worker has GPUs
    ],
)
def test_a_training_of_another_number_of_processes_is_of_another_class(
    world: World, tmp_path: Path, overrides: list[str], processes: int | None, batch_size: int | None
) -> None:
    stage = StageFolder(tmp_path / "iteration-01")
    request = world.train_request(stage, settings={"batch_size": 16, "micro_batch_size": 16}, processes=2)
    place = training_place(requests_of(tmp_path, *overrides), request)
    assert (place.bits.get("processes"), place.bits.get("batch_size")) == (processes, batch_size)


def test_the_class_of_a_training_is_the_one_that_its_room_writes(
    world: World, sampled: StageFolder, tmp_path: Path
) -> None:
    request = world.train_request(copy_stage(sampled, tmp_path))
    manifest = read_manifest(train(request).checkpoint)
    assert manifest is not None
    assert training_place(requests_of(tmp_path), request).bits == class_in(manifest.environment)


def drawn(requests: Requests, run: str, devices: Sequence[str | None]) -> StageFolder:
    """Shards of a run's iteration on these devices, of this run's class otherwise."""
    folder = requests.root.run(run)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.record.write_text(f'{{"code_version": "{code_version()}"}}')
    for number, device in enumerate(devices):
        if device is not None:
            bits = {**samples_place(requests).bits, "device": device}
            commit(
                folder.iteration(1).samples(number), lambda path: path.write_bytes(b"PAR1") and None, kind="samples",
                identity=IDENTITY, environment=lambda bits=bits: bits,
            )  # fmt: skip
    return folder.iteration(1)


@pytest.mark.parametrize(
    ("overrides", "theirs", "standing", "left"),
    [
        ([], ["cuda A", "cuda A"], [], ()),
        ([], ["cuda A", "cuda B"], [], (0, 1)),  # a worker would refuse to mix them
        ([], ["cuda A", None], [], (0, 1)),  # the worker's card may be another than A
        ([], ["cuda A", "cuda A"], ["cuda A"], ()),
        ([], ["cuda A", "cuda A"], ["cuda B"], (1,)),
        (["execution.mix_classes=true"], ["cuda A", "cuda B"], [], ()),
        (["execution.mix_classes=true"], ["cuda A", None], [], (1,)),
        (["execution.device=cuda"], ["cpu one", "cpu one"], [], (0, 1)),
        (["execution.adopt=false"], ["cuda A", "cuda A"], [], (0, 1)),
    ],
)
def test_shards_for_workers_are_taken_in_one_class(
    world: World,
    tmp_path: Path,
    overrides: list[str],
    theirs: list[str | None],
    standing: list[str],
    left: tuple[int, ...],
) -> None:
    requests = requests_of(tmp_path, "execution.executor=workers", *overrides)
    drawn(requests, "first", theirs)
    stage = drawn(requests, "second", standing)
    world.plan(stage, shard_size=12, reads=24)  # two shards
    missing = tuple(range(len(standing), 2))
    assert adopt_samples(requests, stage, missing, IDENTITY) == left
    assert all(stands(stage.samples(shard), IDENTITY) == (shard not in left) for shard in range(2))


@pytest.mark.parametrize(("device", "left"), [("cuda " + CARD, ()), ("cuda NVIDIA H100", (0, 1))])
def test_shards_of_another_card_are_not_taken(world: World, tmp_path: Path, device: str, left: tuple[int, ...]) -> None:
    requests = requests_of(tmp_path, device="cuda")
    drawn(requests, "first", [device, device])
    stage = drawn(requests, "second", [])
    world.plan(stage, shard_size=12, reads=24)
    assert adopt_samples(requests, stage, (0, 1), IDENTITY) == left
