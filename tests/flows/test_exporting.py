"""Adapters that stages trained, as files that a fresh pipeline of diffusers opens."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from torch import Tensor

from spin.core.config import load_config
from spin.core.layout import RunFolder, RunsRoot
from spin.core.record import open_record, write_record
from spin.diffusion.digest import model_digest
from spin.prepare.base import local_base
from spin.sample.room import run as sample
from spin.train.request import TrainResult
from spin.train.room import run as train
from tests.families import build
from tests.flows.command_line import Answer, type_in
from tests.flows.conftest import play, tiny
from tests.world import World, make_world

pytestmark = pytest.mark.system

KINDS = ("sd-v", pytest.param("sdxl", marks=pytest.mark.slow), pytest.param("sd3", marks=pytest.mark.slow))
ADAPTER: dict[str, Any] = {"lora_rank": 2, "lora_alpha": 6.0, "lr": 3e-2, "steps": 3, "warmup_steps": 0}
SUPERVISED: dict[str, Any] = {**ADAPTER, "objective": "sft", "beta": 0.0, "sft_weight": 0.0, "lora_layers": "all"}


@dataclass(frozen=True)
class Learned:
    """A run of two stages with an adapter each: a supervised one over all layers, and self-play over attention."""

    root: Path
    base: Path
    sft: TrainResult
    spin: TrainResult


def train_stages(world: World, run: RunFolder) -> tuple[TrainResult, TrainResult]:
    """Train the two stages of a run one after the other."""
    sft = train(world.train_request(run.sft, settings=SUPERVISED))
    iteration = run.iteration(1)
    world.plan(iteration, reads=24)
    opponent = {"opponent": sft.checkpoint, "opponent_digest": sft.digest}
    sample(world.sample_request(iteration, num_inference_steps=2, **opponent))
    start = {"start": sft.checkpoint, "start_digest": sft.digest}
    return sft, train(world.train_request(iteration, settings={**ADAPTER, "ema_decay": 0.5}, **start))


def note(run: RunFolder, base: Path, sft: TrainResult, spin: TrainResult) -> None:
    """What the flow would have written down."""
    record = open_record(run, load_config("miniature", overrides=["run.name=tuned", f"model.base={base}"]))
    made = [("base", base, model_digest(base)), ("sft", sft.checkpoint, sft.digest)]
    made.append(("iteration-01", spin.checkpoint, spin.digest))
    record["stages"] = [
        {"name": name, "label": name, "checkpoint": str(folder), "digest": digest} for name, folder, digest in made
    ]
    write_record(run, record)


@pytest.fixture(scope="module")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Learned]:
    """The run of a family's tiny pipeline, made at its first use."""

    @cache
    def make(kind: str) -> Learned:
        root = tmp_path_factory.mktemp(kind)
        build(kind).save_pretrained(root / "base")
        world = make_world(root / "runs", root / "base")
        run = RunsRoot(root / "runs").run("tuned")
        sft, spin = train_stages(world, run)
        note(run, root / "base", sft, spin)
        return Learned(root / "runs", root / "base", sft, spin)

    return make


@pytest.fixture(params=KINDS)
def learned(request: pytest.FixtureRequest, learn: Callable[[str], Learned]) -> Learned:
    return learn(request.param)


@pytest.fixture
def one(learn: Callable[[str], Learned]) -> Learned:
    """Of one family; what the command says of it is the same for all."""
    return learn("sd-v")


def export(learned: Learned, *words: str, into: Path) -> Answer:
    return type_in(into.parent, "export-lora", "tuned", "--root", str(learned.root), "--into", str(into), *words)


def draw(folder: Path, adapter: Path | None = None) -> Tensor:
    """Latents of two captions, guided, from the same noise."""
    pipeline: Any = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipeline.load_lora_weights(str(adapter))
    generator = torch.Generator().manual_seed(1)
    found: Tensor = pipeline(
        ["a red circle", "a large square"], num_inference_steps=4, guidance_scale=3.0, generator=generator,
        output_type="latent",
    ).images  # fmt: skip
    return found


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_the_file_of_both_stages_makes_the_base_the_merged_model(learned: Learned, form: str, tmp_path: Path) -> None:
    answer = export(learned, "--format", form, into=tmp_path / "out")
    if "sd3" in str(learned.root) and form == "kohya":
        assert "diffusers reads none for StableDiffusion3Pipeline; take --format diffusers" in answer.line
        return
    assert answer.code == 0, answer.err
    assert "sft + iteration-01, to lay over base" in answer.out
    (file,) = (tmp_path / "out").iterdir()
    assert (
        file.name == {"diffusers": "pytorch_lora_weights.safetensors", "kohya": "tuned-iteration-01.safetensors"}[form]
    )
    wanted, plain = draw(learned.spin.checkpoint), draw(learned.base)
    assert (wanted - plain).abs().max() > 1e-3
    torch.testing.assert_close(draw(learned.base, file), wanted, atol=1e-5, rtol=0)


def test_one_stage_alone_is_laid_over_the_model_that_it_began_with(learned: Learned, tmp_path: Path) -> None:
    file = tmp_path / "last.safetensors"
    assert export(learned, "--relative-to", "sft", into=file).code == 0
    torch.testing.assert_close(draw(learned.sft.checkpoint, file), draw(learned.spin.checkpoint), atol=1e-5, rtol=0)


def test_the_kept_adapter_opens_as_it_lies(learned: Learned) -> None:
    kept = learned.sft.checkpoint.parents[1] / "adapters" / learned.sft.checkpoint.name
    torch.testing.assert_close(draw(learned.base, kept), draw(learned.sft.checkpoint), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_run_of_lora_stages_shows_its_adapters_and_exports_them(tmp_path: Path) -> None:
    config = tiny(tmp_path / "runs", "train.lora_rank=2", "sft.lora_rank=2", "sft.ema_decay=0.9")
    play(config)
    status = type_in(tmp_path, "status", "tiny")
    assert status.code == 0
    assert all(f"{stage}/adapters/step-000003" in status.out for stage in ("sft", "iteration-01", "iteration-02"))
    answer = type_in(tmp_path, "export-lora", "tiny", "--into", "lora.safetensors", "--format", "kohya")
    assert answer.code == 0
    assert "sft + iteration-01 + iteration-02, to lay over base" in answer.out
    checkpoint = RunsRoot(tmp_path / "runs").run("tiny").iteration(2).checkpoint(3)
    merged, laid = (DiffusionPipeline.from_pretrained(folder) for folder in (checkpoint, local_base("miniature")))
    laid.load_lora_weights(str(tmp_path / "lora.safetensors"))
    laid.fuse_lora()
    laid.unload_lora_weights()
    for name, weight in merged.unet.state_dict().items():
        torch.testing.assert_close(laid.unet.state_dict()[name], weight, atol=1e-6, rtol=0)


def test_the_header_names_the_base_and_no_place_of_this_machine(one: Learned, tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    export(one, into=file)
    with safe_open(file, "pt") as opened:
        notes = opened.metadata()
    assert notes["base_model"] == "base"
    assert (notes["relative_to"], notes["relative_to_digest"]) == ("base", model_digest(one.base))
    assert (notes["run"], notes["stages"], notes["merged_digest"]) == ("tuned", "sft, iteration-01", one.spin.digest)
    assert str(one.root) not in json.dumps(notes)


def test_what_stands_is_not_overwritten(one: Learned, tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    assert export(one, into=file).code == 0
    before = file.read_bytes()
    assert "is there already; name another --into" in export(one, into=file).line
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--stage", "iteration-02"), "run 'tuned' has no model 'iteration-02'; models: base, sft, iteration-01"),
        (("--relative-to", "iteration-09"), "run 'tuned' has no model 'iteration-09'; models: base, sft, iteration-01"),
        (("--stage", "sft", "--relative-to", "iteration-01"), "no adapters lead from iteration-01 to sft"),
        (("--stage", "sft", "--relative-to", "sft"), "tuned: sft and sft are one model; name a later --stage"),
    ],
)
def test_a_way_that_is_none_is_one_line(one: Learned, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    assert line in export(one, *words, into=tmp_path / "out").line
    assert not (tmp_path / "out").exists()
