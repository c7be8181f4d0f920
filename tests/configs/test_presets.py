"""Every preset that ships: each value names its source, each loads, each can be planned offline."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.forecast import forecast
from spin.core.config import Config, load_config, preset_names

CONFIGS = Path(__file__).parents[2] / "configs"
FULL_SIZE = [name for name in preset_names() if not name.startswith("miniature")]
QUICK = ("sd15-fast",)  # of those whose model is large; the others are planned by `make test-slow`


def load(name: str, *overrides: str) -> Config:
    own = [] if name.startswith("miniature") else ["data.path=/nowhere", "data.rows=5000"]
    return load_config(name, overrides=[*own, *overrides])


def test_the_presets_are_those_that_are_promised() -> None:
    promised = {
        "miniature", "miniature-sft", "sd15-paper", "sd15-card", "sd15-fast", "sft", "sft-lora", "dpo", "sdxl", "sd3",
    }  # fmt: skip
    assert set(preset_names()) == promised == {path.stem for path in CONFIGS.glob("*.yaml")}


@pytest.mark.parametrize("name", preset_names())
def test_every_value_names_its_source(name: str) -> None:
    lines = (CONFIGS / f"{name}.yaml").read_text("utf-8").splitlines()
    values = [line for line in lines if re.match(r"\s*\w+: *[^ #]", line)]
    assert values
    assert [line for line in values if not re.search(r" # \S", line)] == []
    assert lines[0].startswith("# ")  # says what it is for


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_names_its_run_after_itself(name: str) -> None:
    assert load(name).run.name == name


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_presets_ask_for_nothing_but_the_data(name: str) -> None:
    config = load(name)
    assert (config.execution.device, config.data.path) == ("cuda", "/nowhere")
    assert "/" in config.model.base
    assert config.evaluation.judges == "published"


@pytest.mark.system
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FULL_SIZE],
)
def test_a_full_size_preset_is_planned_offline_and_fits_its_card(name: str, tmp_path: Path) -> None:
    found = forecast(load(name, f"run.root={tmp_path}"), gpu="h200")
    assert found.base.architecture is not None
    assert [need.work for need in found.memory if need.total > 0.95 * found.machine.memory_bytes] == []
    assert {line.task.kind for line in found.lines} >= {"prepare", "train", "evaluate", "report"}
    assert all(line.seconds > 0 for line in found.lines if line.task.count)


def test_the_cards_recipe_has_the_cards_values() -> None:
    config = load("sd15-card")
    rounds = [config.train.at(number) for number in (1, 2, 3)]
    assert [(each.lr, each.steps, each.beta) for each in rounds] == [
        (2e-5, 500, 2000), (2e-5, 500, 5000), (2e-5, 500, 5000),
    ]  # fmt: skip
    assert (config.train.warmup_steps, config.train.lr_schedule, config.train.batch_size) == (200, "linear", 2048)


def test_the_supervised_baseline_is_the_papers() -> None:
    sft, config = load("sft").sft, load("sft")
    assert (config.iterations, sft.steps, sft.lr, sft.batch_size) == (0, 2000, 1e-5, 512)
    assert (sft.warmup_steps, sft.lr_schedule, sft.lora_rank) == (500, "constant", None)
    assert load("sft-lora").sft.model_copy(update={"lr": 1e-5, "lora_rank": None}) == sft


def test_diffusion_dpo_is_as_the_paper_reproduces_it() -> None:
    config = load("dpo")
    exact = config.train.at(1)
    assert (config.iterations, config.train.losers) == (1, "labelled")
    assert (exact.lr, exact.beta, exact.steps, config.train.batch_size) == (2e-5, 2000, 350, 2048)


def test_our_recipe_is_what_the_comparisons_taught() -> None:
    config, miniature = load("sd15-fast"), load_config("miniature")
    assert config.sft.steps > 0  # a supervised start
    assert config.train.sft_weight == miniature.train.sft_weight == 0.1  # the anchor
    assert config.sampling.guidance_scale == miniature.sampling.guidance_scale == 1
    assert config.sampling.loser_source == "latents"
    rates, theirs = ([train.at(k).lr for k in (1, 2, 3)] for train in (config.train, miniature.train))
    assert [rate / rates[0] for rate in rates] == pytest.approx([rate / theirs[0] for rate in theirs], rel=0.03)
    assert max(rates) == 2e-5  # the paper's largest
    for each in (config, miniature):  # the start reads as many images as the game
        game = sum(each.train.at(k).steps for k in (1, 2, 3)) * each.train.batch_size
        assert each.sft.steps * each.sft.batch_size == game
    assert load_config("sd15-fast", overrides=["data.path=x"]).data.rows == config.sft.steps * config.sft.batch_size


@pytest.mark.parametrize(
    ("name", "solver", "steps", "guidance", "resolution"),
    [("sdxl", "euler", 50, 5, 1024), ("sd3", "euler", 28, 7, 1024)],
)
def test_other_families_are_evaluated_as_their_pipelines_draw(
    name: str, solver: str, steps: int, guidance: float, resolution: int
) -> None:
    config = load(name)
    evaluation = config.evaluation
    found = (evaluation.scheduler, evaluation.num_inference_steps, evaluation.guidance_scale, config.data.resolution)
    assert found == (solver, steps, guidance, resolution)


def test_the_flow_recipe_trains_an_adapter_by_its_own_law() -> None:
    train = load("sd3").train
    assert (train.timestep_law, train.lora_rank, train.lora_layers, train.beta) == ("model", 128, "all", 100)
