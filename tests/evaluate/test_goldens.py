"""The command that scores a folder of goldens: the packaged one, one it has never seen, and broken ones."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from transformers import CLIPConfig, CLIPModel

from spin.evaluate import goldens as module
from spin.evaluate.goldens import Goldens, main
from tests.evaluate.golden_scorers import FOLDER

EXPECTED = ("pickscore", "hpsv2", "hpsv2 without antialias", "image_reward", "aesthetic")


def rewrite(path: Path, change) -> None:
    value = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(change(value) or value), "utf-8")


@pytest.mark.system
def test_the_packaged_folder_is_equal(capsys):
    assert main([str(FOLDER)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("9 pictures x 8 prompts")
    assert [line.split("  ")[0] for line in lines[-5:]] == list(EXPECTED)
    assert all(line.endswith("allowed: equal") for line in lines[-5:])


@pytest.mark.slow
def test_a_score_past_its_tolerance_is_named_and_the_command_fails(tmp_path, capsys):
    shutil.copytree(FOLDER, tmp_path / "g")

    def move(golden):
        golden["scores"][2] += 1.1e-4  # aesthetic allows 1e-4

    rewrite(tmp_path / "g" / "aesthetic" / "golden.json", move)
    assert main([str(tmp_path / "g")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("aesthetic                1.")
    assert lines[-1].endswith("DIFFERENT")
    assert sum(line.endswith("equal") for line in lines) == 4


@pytest.fixture
def stranger(tmp_path):
    """Another folder: a CMYK TIFF and an odd picture, other prompts, PickScore with other widths and more layers."""
    folder = tmp_path / "stranger"
    shutil.copytree(FOLDER, folder)
    for path in (folder / "images").iterdir():
        path.unlink()
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (301, 223, 4), dtype=np.uint8)
    Image.frombytes("CMYK", (223, 301), pixels.tobytes()).save(folder / "images" / "ink.tiff")
    Image.fromarray(pixels[:57, :200, :3]).save(folder / "images" / "wide.png")
    names = ["ink", "wide"]
    inputs = {
        "images": [{"name": "ink", "file": "ink.tiff"}, {"name": "wide", "file": "wide.png"}],
        "prompts": [{"name": "one", "text": "a heron, ink on paper"}],
    }
    (folder / "inputs.json").write_text(json.dumps(inputs))
    config = json.loads((folder / "pickscore" / "config.json").read_text())
    config["text_config"] |= {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
    config["vision_config"] |= {"hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4}
    config["projection_dim"] = 40
    (folder / "pickscore" / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(**config))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    (folder / "pickscore" / "model.safetensors.gz").write_bytes(gzip.compress(save(state), 1))
    found = Goldens.open(folder)
    judges = {
        "pickscore": module.pickscore, "hpsv2": module.hpsv2, "imagereward": module.image_reward,
        "aesthetic": module.aesthetic,
    }  # fmt: skip
    for name, build in judges.items():
        scores = module.one_by_one(build(found), found).tolist()
        golden = {"scores": scores[0] if name == "aesthetic" else scores, "images": names}
        if name == "hpsv2":
            golden["scores_antialias_false"] = module.one_by_one(module.hpsv2(found, antialias=False), found).tolist()
        (folder / name / "golden.json").write_text(json.dumps(golden))
    return folder


def test_a_folder_never_seen_is_scored_by_its_own_files(stranger, capsys):
    assert Goldens.open(stranger).images[0].mode == "CMYK"
    assert main([str(stranger)]) == 0
    assert capsys.readouterr().out.startswith("2 pictures x 1 prompts")


def test_a_picture_that_the_reference_refuses_is_held_against_its_converted_scores():
    golden = Goldens.open(FOLDER)
    column = golden.expected("hpsv2")[:, golden.image_names.index("rgba256x320")]
    assert column.tolist() == pytest.approx(golden.config("hpsv2", "golden")["scores_after_convert_rgb"]["rgba256x320"])


@pytest.mark.parametrize(("arguments", "line"), [
    ([], "usage: python -m spin.evaluate.goldens DIR"),
    (["/nowhere"], "/nowhere/inputs.json: cannot be read"),
])  # fmt: skip
def test_a_wrong_call_is_one_line_and_exit_code_2(arguments, line, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_damaged_weights_are_one_line_and_exit_code_2(tmp_path, capsys):
    shutil.copytree(FOLDER, tmp_path / "g")
    path = tmp_path / "g" / "pickscore" / "model.safetensors.gz"
    path.write_bytes(path.read_bytes()[:1000])
    assert main([str(tmp_path / "g")]) == 2
    assert "model.safetensors.gz: cannot be read as weights (1000 bytes)" in capsys.readouterr().err


def test_a_folder_of_one_picture_is_scored(stranger, capsys):
    (stranger / "images" / "wide.png").unlink()

    def first(golden):
        for field in ("scores", "scores_antialias_false"):
            if field in golden:
                flat = not isinstance(golden[field][0], list)
                golden[field] = golden[field][:1] if flat else [row[:1] for row in golden[field]]

    for judge in ("pickscore", "hpsv2", "imagereward", "aesthetic"):
        rewrite(stranger / judge / "golden.json", first)
    rewrite(stranger / "inputs.json", lambda inputs: {**inputs, "images": inputs["images"][:1]})
    assert main([str(stranger)]) == 0
    assert capsys.readouterr().out.startswith("1 pictures x 1 prompts")


def test_a_folder_that_lacks_a_field_is_one_line(tmp_path, capsys):
    shutil.copytree(FOLDER, tmp_path / "g")
    rewrite(tmp_path / "g" / "hpsv2" / "golden.json", lambda golden: {"scores": golden["scores"]})
    assert main([str(tmp_path / "g")]) == 2
    assert "is no whole folder of goldens (KeyError: 'scores_antialias_false')" in capsys.readouterr().err
