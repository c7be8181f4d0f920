"""What `plan` prints, and that the README's example is that."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from flows import forecast_text
from flows.forecast import Base, Forecast, Line, Machine, forecast
from flows.forecast_copy import Copy
from flows.forecast_space import Need
from flows.forecast_text import print_forecast, time_text
from spin.core.config import load_config
from spin.core.counted import Flops
from spin.core.outline import Rows, Task
from spin.diffusion.architectures.known import packaged_architecture
from tests.flows.counted import COUNTS, DRAWN

README = Path(__file__).parents[2] / "README.md"
WIDTH = 118
GIB = 2**30
FOUND = Forecast(
    config=load_config("miniature"),
    base=Base("miniature", Path(), None),
    machine=Machine("this machine's CPU", 8 * GIB, 1, "cpu", None),
    rows=Rows(384, 768, 768, "the embedded world"),
    counts=COUNTS,
    lines=(
        Line(Task("data", "prepare", "", "pictures [of /a folder]", "prepared", 768), 90.0, 90.0),
        Line(Task("iteration-01", "plan", "data prepare", "384 images"), 0.0, 0.0),
        Line(Task("iteration-01", "sample", "iteration-01 plan", "384 images in 3 shards", "sampled", 384), 3e4, 2.4e5),
    ),
    disk={"samples": 3 * GIB, "text": 0},
    copy=None,
    free_bytes=16 * GIB,
    memory=(Need("train, 8 pairs a pass", {"weights": 6 * GIB, "average": 0}, "train.micro_batch_size", 8, 1),),
    told="guessed",
    warnings=(),
)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Forecast], list[str]]:
    def lines(found: Forecast) -> list[str]:
        console = Console(width=WIDTH, record=True, file=io.StringIO())
        monkeypatch.setattr(forecast_text, "console", console)
        print_forecast(found)
        return [line.rstrip() for line in console.export_text().splitlines()]

    return lines


def squeezed(lines: list[str]) -> list[str]:
    return [re.sub(r"  +", " | ", line.strip()) for line in lines]


def test_tasks_stand_under_their_stage_with_what_they_wait_for(printed) -> None:
    lines = squeezed(printed(FOUND))
    assert "data | prepare | pictures [of /a folder] | 90 s | 0.025" in lines
    assert "iteration-01 | plan | data prepare | 384 images" in lines
    assert "sample | iteration-01 plan | 384 images in 3 shards | 8.3 h | 66.7" in lines
    assert "total | 8.4 h | 66.7" in lines


def test_how_the_opponent_draws_is_told(printed) -> None:
    config = load_config("miniature", overrides=["sampling.num_inference_steps=7", "sampling.guidance_scale=2.5"])
    drawn = replace(COUNTS, sampled=DRAWN)
    assert "draws | 7 steps of dpmsolver++, guidance 2.5" in squeezed(
        printed(replace(FOUND, config=config, counts=drawn))
    )
    assert "draws | 20 steps of dpmsolver++, no guidance" in squeezed(printed(replace(FOUND, counts=drawn)))
    assert not any(line.startswith("draws") for line in printed(replace(FOUND, counts=replace(COUNTS, sampled=None))))


def test_what_sampling_leaves_out_is_named_with_what_it_saves(printed) -> None:
    assert not any(line.startswith("approximated") for line in printed(FOUND))
    config = load_config("miniature", overrides=["sampling.reuse_every=3"])
    sampled = replace(DRAWN, saved=Flops(5.0, 5.0))  # and 40 are done
    lines = squeezed(printed(replace(FOUND, config=config, counts=replace(COUNTS, sampled=sampled))))
    assert (
        "approximated | deep features of every 3rd call reused; saves 20% of the operations of the opponent's network"
    ) in lines


def test_disk_and_memory_are_told_with_what_is_free(printed) -> None:
    lines = squeezed(printed(FOUND))
    assert "disk | 3.0 GiB of 16.0 GiB free: samples 3.0 GiB" in lines
    assert "train, 8 pairs a pass | weights 6.0 GiB | 6.0 GiB | 2.0 GiB, 25%" in lines


def test_what_is_known_of_a_copy_is_told(printed) -> None:
    lines = squeezed(printed(replace(FOUND, copy=Copy(None, "a copy comes on top"))))
    assert "disk | 3.0 GiB of 16.0 GiB free: samples 3.0 GiB; a copy comes on top" in lines


def test_what_does_not_fit_lacks_something(printed) -> None:
    small = replace(FOUND, machine=Machine("l4", 4 * GIB, 1, "cuda", None), warnings=("take less",))
    lines = squeezed(printed(small))
    assert "train, 8 pairs a pass | weights 6.0 GiB | 6.0 GiB | lacks 2.0 GiB" in lines
    assert "mind | take less" in lines
    assert any(line.startswith("stage | task | after | work | time | GPU hours") for line in lines)


def test_a_download_is_told_before_it_happens(printed) -> None:
    assert not any("download" in line for line in printed(FOUND))
    known = packaged_architecture("stabilityai/stable-diffusion-xl-base-1.0")
    lines = squeezed(printed(replace(FOUND, base=Base("x/y", Path(), known))))
    # 4 bytes of each of 1300 weights
    assert "base | x/y: 0 million weights, 0 million train; not on this machine, a run downloads 0.0 GB" in lines


def test_text_of_unknown_captions_is_told_by_the_thousand(printed) -> None:
    lines = printed(replace(FOUND, rows=Rows(80, 100, None, "data.rows")))
    assert any("text comes on top, 0 MiB for a thousand different captions" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(119, "119 s"), (120, "2.0 min"), (7200, "2.0 h"), (3 * 86400 - 1, "72.0 h"), (4e5, "4.6 days")],
)
def test_times_are_told_in_words(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def numbers(lines: list[str]) -> list[float]:
    return [float(number.replace(",", "")) for line in lines for number in re.findall(r"\d[\d,]*\.?\d*", line)]


@pytest.mark.system
def test_the_readmes_example_is_what_plan_prints(printed, tmp_path: Path) -> None:
    """Words for words; numbers within 2 %, which other versions of torch may move. COLUMNS=118 prints it anew."""
    text = README.read_text("utf-8")
    command, _, rest = text[text.index("\n$ spin-diffusion plan") + 1 :].partition("\n")
    shown = rest[: rest.index("\n```")].splitlines()
    words = command.split()[3:]
    overrides = [word for flag, word in pairwise(words) if flag == "--set"]
    config = load_config(words[0], overrides=[*overrides, f"run.root={tmp_path}"])
    found = forecast(config, gpu=words[words.index("--gpu") + 1], gpus=int(words[words.index("--gpus") + 1]))
    told = printed(replace(found, free_bytes=2**40, warnings=()))  # a terabyte, as in the example
    shape = [re.sub(r"\d[\d,]*\.?\d*", "N", " | ".join(squeezed(lines))) for lines in (shown, told)]
    assert shape[0] == shape[1]
    assert numbers(shown) == pytest.approx(numbers(told), rel=0.02, abs=0.1)
