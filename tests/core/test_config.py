"""Loading: presets, files, overrides; every problem at once, each in one line that names its place."""

import json
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from spin.core.config import Config, IterationTraining, config_from_mapping, load_config, preset_names
from spin.core.config_identity import config_to_json
from spin.core.config_messages import config_keys
from spin.core.errors import ConfigError


def problems(source, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides=overrides)
    return str(caught.value).splitlines()


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        path = Path("c.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_miniature_preset_writes_out_every_default():
    preset = load_config("miniature", overrides=["train.lr=3e-5"])  # its own are one for each of three rounds
    assert preset == Config()
    text = Path("configs/miniature.yaml")
    text = (Path(__file__).parents[2] / text).read_text(encoding="utf-8")
    leaves = [line for line in text.splitlines() if line.partition("#")[0].rstrip().partition(": ")[2]]
    sections = [line for line in text.splitlines() if line.endswith(":")]
    assert len(leaves) + len(sections) == len(config_keys())
    assert all(" # " in line for line in leaves)


def test_the_papers_preset_has_the_papers_values():
    config = load_config("sd15-paper", overrides=["data.path=/data/winners"])
    # method of arXiv 2402.10210, table of hyper-parameters: steps, learning rate, beta of iterations 1 to 3
    assert config.train.at(1) == IterationTraining(iteration=1, beta=2000, lr=2e-5, steps=50)
    assert config.train.at(2) == IterationTraining(iteration=2, beta=5000, lr=2e-5, steps=500)
    assert config.train.at(3) == IterationTraining(iteration=3, beta=5000, lr=5e-8, steps=200)
    train = config.train
    assert (train.batch_size, train.warmup_steps, train.lr_schedule, train.weight_decay) == (2048, 200, "linear", 0.01)
    assert (train.sft_weight, train.caption_dropout, config.sft.steps) == (0, 0, 0)
    assert (config.sampling.guidance_scale, config.data.resolution) == (7.5, 512)
    assert config.model.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"


def test_the_papers_preset_reads_pick_a_pic_from_the_hub():
    data = load_config("sd15-paper").data
    assert (data.source, data.path, data.pairs) == ("pickapic", "yuvalkirstain/pickapic_v2", False)
    assert load_config("dpo").data.pairs
    (line,) = problems("sd15-paper", ["data.path=null"])
    assert line.startswith("--set data.path=null: missing; data.source pickapic needs")


def test_the_miniatures_sft_preset_is_the_miniature_without_self_play():
    config = load_config("miniature-sft")
    assert (config.iterations, config.run.name) == (0, "miniature-sft")
    assert config.train == load_config("miniature").train


def test_a_file_may_hold_only_some_keys(written):
    config = load_config(written("train:\n  beta: 2000\nsft:\n"))
    assert config.train.beta == 2000.0
    assert type(config.train.beta) is float
    assert config.sft == Config().sft
    assert config.train.lr == Config().train.lr


def test_a_file_may_start_from_a_preset(written):
    config = load_config(written("preset: miniature-sft\nsft: {lr: 2e-4}\n"))
    assert (config.iterations, config.sft.lr, config.sft.steps) == (0, 2e-4, 1242)


@pytest.mark.parametrize("name", ["5", "[sft]", "true", "stf"])
def test_a_preset_that_is_not_there_is_told_with_its_place(written, name):
    (line,) = problems(written(f"# mine\npreset: {name}\n"))
    assert line.startswith("c.yaml:2:9: preset: unknown preset ")


def test_a_path_may_be_text_or_a_path(written):
    path = written("iterations: 5\n")
    assert load_config(str(path)) == load_config(path)


def test_overrides_win_and_the_last_one_last():
    config = load_config(
        "miniature", overrides=["train.beta=1", "train.beta = 2e3", "iterations=2", "train.steps=[5,6]"]
    )
    assert config.train.beta == 2000
    assert config.train.steps == (5, 6)


def test_an_override_may_be_a_whole_section_or_text_with_an_equals_sign():
    config = load_config(
        "miniature", overrides=["train={lr: 1e-6, posterior_sample: false}", "model.base=/a=b/c", "data.rows="]
    )
    assert (config.train.lr, config.train.posterior_sample, config.train.beta) == (1e-6, False, 300)
    assert (config.model.base, config.data.rows) == ("/a=b/c", None)


def test_one_value_serves_every_iteration():
    assert Config().train.at(1).beta == Config().train.at(99).beta == 300
    with pytest.raises(ConfigError, match="iterations count from 1, got 0"):
        Config().train.at(0)


def test_there_is_no_iteration_beyond_a_list():
    config = load_config("miniature", overrides=["train.lr=[1e-5, 2e-5, 3e-5]"])
    assert [config.train.at(k).lr for k in (1, 2, 3)] == [1e-5, 2e-5, 3e-5]
    with pytest.raises(ConfigError, match=r"train\.lr: has 3 values, so there is no iteration 4"):
        config.train.at(4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.beta=fast", "expected a number, got 'fast'"),
        ("train.beta=true", "expected a number, got true"),
        ("train.beta='3e-5'", "expected a number, got '3e-5'; remove the quotes"),
        ("train.beta=0", "must be above 0, got 0"),
        ("train.beta=.inf", "expected a finite number, got inf"),
        ("train.beta=", "expected a number, got null"),
        ("train.beta={a: 1}", "expected a number, got keys (a)"),
        ("train.beta=[]", "must not be empty"),
        ("train.lr=2", "must be at most 1, got 2"),
        ("train.steps=1.0", "expected a whole number, got 1.0"),
        ("train.steps=-1", "must be at least 1, got -1"),
        ("train.adam_beta1=1", "must be below 1, got 1"),
        ("train.adam_beta1=true", "expected a number, got true"),
        ("train.batch_size=true", "expected a whole number, got true"),
        ("train.batch_size=0", "must be at least 1, got 0"),
        ("train.batch_size=9999999", "must be at most 1000000, got 9999999"),
        ("train.flip=1", "expected true or false, got 1"),
        ("train.flip=yes", "expected true or false, got 'yes'"),
        ("train.ema_decay=1", "must be below 1, got 1"),
        ("run.seed=4294967296", "must be at most 4294967295, got 4294967296"),
        ("run.root=''", "must not be empty"),
        ("run.root=5", "expected text, got 5; put it in quotes"),
        ("run.name=cache", "'cache' is a folder of the house; choose another name"),
        ("run.name=evaluations", "'evaluations' is a folder of the house; choose another name"),
        ("data.resolution=30", "must be a multiple of 8, got 30"),
        ("data.held_out_share=0", "must be above 0, got 0"),
        (
            "data.source=folder",
            "expected one of miniature, imagefolder, parquet, webdataset, pickapic; got 'folder'; "
            "did you mean 'imagefolder'?",
        ),
        ("data.path=/x", "has no use with data.source miniature; set data.source to imagefolder or parquet"),
        ("sampling.loser_source=latent", "expected one of latents, roundtrip; got 'latent'; did you mean 'latents'?"),
        (
            "sampling.scheduler=heun",
            "expected one of dpmsolver++, unipc, deis, euler, ddim, pndm, dpmsolver++karras, eulerkarras, edm; got "
            "'heun'",
        ),
        ("evaluation.scorers=[alignment, alignment]", "names 'alignment' twice"),
        ("train=5", "expected keys below it, got 5"),
        ("train.beta=[1", "not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("train.beta=!x 1", "tag '!x' is not read; write a plain value"),
    ],
)
def test_a_wrong_value_is_told_in_words(override, message):
    assert problems("miniature", [override]) == [f"--set {override}: {message}"]


@pytest.mark.parametrize("name", ["", "a b", ".hidden", "-x", "a/b", "a" * 65, "caf\u00e9", "a\n"])
def test_a_run_name_is_a_plain_word(name):
    (line,) = problems("miniature", [f"run.name={json.dumps(name)}"])
    assert "expected 1 to 64 letters, digits, '.', '_' or '-', no mark in front; got" in line


@pytest.mark.parametrize("name", ["a", "2024-01-01", "v1.2_x-y", "a" * 64])
def test_a_plain_word_names_a_run(name):
    assert load_config("miniature", overrides=[f"run.name={name}"]).run.name == name


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("trian.beta=1", "--set trian.beta=1: unknown key; did you mean 'train.beta'?"),
        ("train.bta=1", "--set train.bta=1: unknown key; did you mean 'beta'?"),
        ("beta=1", "--set beta=1: unknown key; did you mean 'train.beta'?"),
        ("run.color=1", "--set run.color=1: unknown key; run has name, seed, root"),
        ("run.name.x=1", "--set run.name.x=1: unknown key"),
        ("train.beta", "--set train.beta: expected KEY=VALUE, such as train.beta=2000"),
        ("=1", "--set =1: unknown key"),
        ("preset=sft", "--set preset=sft: name the preset in place of the file, or write it in the file"),
        ("train={q: 1}", "--set train={q: 1}: train.q: unknown key"),
        (
            "evaluation.scorers=[alignmnt]",
            "--set evaluation.scorers=[alignmnt]: evaluation.scorers[0]: expected one of",
        ),
        ("train.lr=[1, x, 1]", "--set train.lr=[1, x, 1]: train.lr[1]: expected a number, got 'x'"),
        ("data.source=parquet", "--set data.source=parquet: data.path: missing; data.source parquet needs the folder"),
    ],
)
def test_a_wrong_override_names_itself(override, line):
    (found,) = problems("miniature", [override])
    assert found.startswith(line)


def test_a_list_must_reach_to_the_last_iteration(written):
    assert problems(written("iterations: 3\ntrain:\n  beta: [1, 2]\n")) == [
        "c.yaml:3:9: train.beta: has 2 values, but iterations is 3; give 3, or one number for all"
    ]
    longer = load_config(written("iterations: 1\ntrain:\n  beta: [1, 2, 3]\n"))  # fewer rounds of a recipe
    assert longer.train.at(1).beta == 1


def test_the_newer_of_two_values_that_clash_is_named():
    lines = problems("sd15-paper", ["data.path=x", "iterations=4"])
    assert [line.split(":")[:2] for line in lines] == [
        ["--set iterations=4", f" train.{name}"] for name in ("beta", "lr", "steps")
    ]


def test_all_problems_of_a_file_are_told_at_once_in_its_order(written):
    path = written(
        "preset: minature\n"
        "trian: 5\n"
        "train:\n"
        "  beta: fast\n"
        "  steps: [1, true]\n"
        "  beta: 2\n"
        "sampling:\n"
        "  num_inference_step: 3\n"
        "  draws: 0\n"
        "data:\n"
        "  source: imagefolder\n"
        "run: {name: 5}\n"
    )
    names = ", ".join(preset_names())
    assert problems(path, ["train.flip=x"]) == [
        f"c.yaml:1:9: preset: unknown preset 'minature'; did you mean 'miniature'? presets: {names}",
        "c.yaml:2:1: trian: unknown key; did you mean 'train'?",
        "c.yaml:4:9: train.beta: expected a number, got 'fast'",
        "c.yaml:5:10: train.steps: has 2 values, but iterations is 3; give 3, or one number for all",
        "c.yaml:5:14: train.steps[1]: expected a whole number, got true",
        "c.yaml:6:3: train.beta: written twice, first in line 4",
        "c.yaml:8:3: sampling.num_inference_step: unknown key; did you mean 'num_inference_steps'?",
        "c.yaml:9:10: sampling.draws: must be at least 1, got 0",
        "c.yaml:11:11: data.path: missing; data.source imagefolder needs the folder, file or URL of your pictures",
        "c.yaml:12:13: run.name: expected text, got 5; put it in quotes",
        "--set train.flip=x: expected true or false, got 'x'",
    ]


def test_own_pictures_have_no_clean_target(written):
    path = written("data:\n  source: parquet\n  path: x\n  target: clean\n")
    assert problems(path) == [
        "c.yaml:4:11: data.target: clean exists only in the miniature, not with data.source parquet"
    ]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("minature", "unknown preset 'minature'; did you mean 'miniature'? presets: miniature, "),
        ("zzz", "unknown preset 'zzz'; presets: miniature, "),
        ("none.yaml", "none.yaml: no such file"),
        ("sft.yaml", "sft.yaml: no such file; did you mean the preset 'sft'?"),
        ("a/sft", "a/sft: no such file"),
        (Path("sft"), "sft: no such file"),
        (".", ".: is a folder; name a YAML file"),
        ("a" * 5000 + ".yaml", "a" * 5000 + ".yaml: cannot be read: File name too long"),
    ],
)
def test_a_source_that_is_not_there_is_told(tmp_path, monkeypatch, source, line):
    monkeypatch.chdir(tmp_path)
    (found,) = problems(source)
    assert found.startswith(line)


def test_a_source_that_is_not_there_does_not_hide_a_bad_override():
    assert problems("zzz", ["q"])[1:] == ["--set q: expected KEY=VALUE, such as train.beta=2000"]


def test_a_long_value_is_echoed_short():
    (line,) = problems("miniature", [f"train.beta={'x' * 500}"])
    assert len(line) < 160


def test_a_config_is_frozen_and_takes_no_unknown_key():
    with pytest.raises(pydantic.ValidationError):
        Config().train.beta = 1.0  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError):
        Config.model_validate({"train": {"gamma": 1}})
    with pytest.raises(pydantic.ValidationError, match=r"train\.beta: has 2 values"):
        Config.model_validate({"train": {"beta": [1, 2]}})


@pytest.mark.parametrize("name", ["miniature", "miniature-sft", "sft", "sd15-paper"])
def test_json_reads_back_as_the_same_config(name):
    config = load_config(name, overrides=["data.path=x", "data.source=parquet", "evaluation.scorers=[diversity]"])
    assert config_from_mapping(json.loads(json.dumps(config_to_json(config))), where="run.json") == config


def test_a_mapping_is_checked_like_a_file():
    with pytest.raises(ConfigError, match=r"^run\.json: train\.bta: unknown key; did you mean 'beta'\?$"):
        config_from_mapping({"train": {"bta": 1}}, where="run.json")


def test_the_config_needs_neither_torch_nor_prefect():
    code = (
        "import sys, spin.core.config, spin.core.config_template, spin.core.config_identity;"
        "spin.core.config.load_config('miniature');"
        "print([name for name in ('torch', 'prefect', 'diffusers', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
