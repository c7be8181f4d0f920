"""The paper's ladder beside what was measured."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.measuring import Check, Timed
from benchmarks.paper import sampling_ladder, training_ladder
from tests.benchmarks.test_measuring import measured


def test_the_ladder_has_the_papers_rates_and_ours() -> None:
    """2048 images in 56 s on 8 GPUs are 4.57 a second on each; 2 s an image of ours are 4096 s."""
    found = measured(timed=[Timed("ours bfloat16", 4, 0.0, [8.0, 8.0])])
    lines = sampling_ladder({"cpu": {"sampling": found}, "gpu": {}})
    assert lines[0].startswith(
        "| 2048 images | paper, s on 8 A100 | images/s a GPU | two cores of a cpu, s | one gpu, s |"
    )
    assert "| N2 | 56 | 4.57 |  |  |  |  |" in lines
    assert "| ours |  |  | 4,096 |  | 0.5 |  |" in lines


def test_training_has_pairs_and_images() -> None:
    names = ("ours bfloat16", "SFT bfloat16, an image")
    found = measured(timed=[Timed(name, 8, 0.0, [8.0 * (2 - number)]) for number, name in enumerate(names)])
    lines = training_ladder({"cpu": {"training": found}})
    assert "| SPIN, pairs | 73 | 3.51 | 4,096 | 0.5 |" in lines
    assert "| SFT, images | 37 | 6.92 | 2,048 | 1 |" in lines


def test_what_gives_other_outputs_has_no_speed() -> None:
    found = measured(timed=[Timed("ours bfloat16", 4, 0.0, [8.0])])
    false = replace(found, checks=[Check("latents", 0.2, 0.1)])
    assert "| ours |  |  |  |  |" in sampling_ladder({"cpu": {"sampling": false}})
