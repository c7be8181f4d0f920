"""What an existing run is opened for, and by whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flows.children import evaluate_shards
from flows.past_run import PastRun
from spin.core.config import load_config
from spin.core.environment import code_version
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.record import read_record, write_record
from tasks.launching import device_of
from tasks.retrying import HopelessError
from tests.flows.conftest import Played


@pytest.mark.parametrize(
    ("device", "executor", "found"), [("cuda", "workers", "cpu"), ("auto", "workers", "cpu"), ("cpu", "local", "cpu")]
)
def test_who_only_orders_work_needs_no_gpu(device: str, executor: str, found: str) -> None:
    """Whether there is one or not."""
    settings = [f"execution.device={device}", f"execution.executor={executor}"]
    assert device_of(load_config("miniature", overrides=settings).execution) == found


def test_a_run_on_gpus_is_read_without_one_and_made_only_with_one(
    copy: Callable[[], Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy()
    folder = RunsRoot(run.root).run("tiny")
    record = read_record(folder)
    record["config"]["execution"] |= {"device": "cuda", "executor": "workers"}
    write_record(folder, record)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert PastRun.open(str(run.root), "tiny").requests.inline
    for making in (
        lambda: PastRun.open_to_add(str(run.root), "tiny"), lambda: PastRun.open(str(run.root), "tiny", here=True)
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="no CUDA device here"):
            making()


def test_a_base_model_that_is_not_on_this_machine_is_told_from_a_changed_one(copy: Callable[[], Played]) -> None:
    run = copy()
    folder = RunsRoot(run.root).run("tiny")
    record = read_record(folder)
    for base, line in (
        ({"path": "/no/such/model"}, "/no/such/model: the base model of the run is not on "),
        ({"digest": "0" * 64}, "the base model has changed since the run; restore the model"),
    ):
        write_record(folder, record | {"base": record["base"] | base})
        with pytest.raises(ConfigError, match=line):
            PastRun.open(str(run.root), "tiny")


def test_one_evaluation_is_made_by_one_code(played: Played) -> None:
    evaluate_shards("tiny", "base", [], code=code_version(), root=str(played.root))
    with pytest.raises(HopelessError, match="is made by other code than there is on "):
        evaluate_shards("tiny", "base", [], code="0.0.1+0123456789ab", root=str(played.root))
