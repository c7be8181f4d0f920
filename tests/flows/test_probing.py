"""`probe` tries sizes on this machine and ends with the line that people look for."""

from __future__ import annotations

import pytest

from flows.probing import print_probe
from spin.core.config import load_config
from spin.core.errors import ConfigError, MemoryShortage
from tests.flows.test_cli import answer

pytestmark = pytest.mark.system

SMALL = ["train.batch_size=2", "execution.device=cpu"]


def test_the_command_tells_each_size_and_what_to_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    code, out, _ = answer(capsys, monkeypatch, "probe", "miniature", *settings)
    lines = out.strip().splitlines()
    assert code == 0
    assert lines[0].split() == ["pairs", "memory", "pairs/s"]
    assert [line.split()[0] for line in lines[1:-1]] == ["1", "2"]
    assert lines[-1].startswith("largest that fits: 2, all that a process reads in a step; fastest: ")
    fastest = lines[-1].split("fastest: ")[1].split()[0]
    assert fastest in ("1", "2")
    assert lines[-1].endswith(f"(set train.micro_batch_size={fastest})")


def test_what_is_not_tried_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train.batch_size=1", "execution.device=cpu", "train.compile=true", "train.reference=stored"]
    assert print_probe(load_config("miniature", overrides=asked), seconds=60).largest == 1
    assert capsys.readouterr().out.startswith("tried without train.compile, which changes both columns\n   pairs")
    shared = ["train.batch_size=2", "sft.batch_size=2", "execution.device=cpu", "execution.train_processes=2"]
    print_probe(load_config("miniature", overrides=[*shared, "execution.train_sharding=full"]), seconds=60)
    assert capsys.readouterr().out.startswith("tried undivided; execution.train_sharding=full leaves room for more\n")


def test_a_kernel_that_is_not_here_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"execution\.attention: a CPU has no efficient kernel"):
        print_probe(load_config("miniature", overrides=[*SMALL, "execution.attention=efficient"]), seconds=60)


def test_a_bound_that_nothing_fits_under_is_one_line() -> None:
    with pytest.raises(MemoryShortage, match="not one of its images fits on this machine's CPU"):
        print_probe(load_config("miniature", overrides=[*SMALL, "iterations=0"]), seconds=60, limit_bytes=2**20)


def test_a_model_that_is_not_here_cannot_be_tried() -> None:
    with pytest.raises(ConfigError, match=r"model\.base: .* is not on this machine: nothing can be tried; download it"):
        print_probe(load_config("sd15-paper"), seconds=60)
