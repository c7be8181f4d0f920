"""What is refused before anything is spent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.entering import check_attention, check_sources, check_training, only_one
from spin.core.config import load_config
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from tests.families import build
from tests.flows.conftest import Played


def test_two_commands_on_one_run_exclude_each_other(tmp_path: Path) -> None:
    folder = RunsRoot(tmp_path).run("tiny")
    with only_one(folder):
        with pytest.raises(ConfigError, match="'tiny' is being worked on"), only_one(folder):
            pass
        with only_one(RunsRoot(tmp_path).run("other")):
            pass
    with only_one(folder):
        pass


def test_a_server_named_by_a_file_in_the_folder_is_refused_unasked(tmp_path: Path) -> None:
    (tmp_path / "prefect.toml").write_text('[api]\nurl = "http://127.0.0.1:9/api"\n')
    script = Path(sys.executable).with_name("spin-diffusion")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run([script, "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "a settings file in this folder points Prefect at http://127.0.0.1:9/api; "
        "set PREFECT_API_URL to use that server, or run in another folder"
    ]


def test_a_batch_of_a_stage_that_is_not_trained_may_be_anything() -> None:
    three = ("execution.train_processes=3", "train.batch_size=9", "sft.batch_size=8")
    check_training(load_config("miniature", overrides=[*three, "sft.steps=0"]))
    with pytest.raises(ConfigError, match=r"sft\.batch_size: a batch of 8 cannot be shared evenly by 3 processes"):
        check_training(load_config("miniature", overrides=[*three, "sft.steps=1"]))


def test_check_names_data_and_models_that_are_not_there(tmp_path: Path) -> None:
    own = ["data.source=imagefolder", f"data.path={tmp_path}/nowhere", "data.target=winners"]
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        check_sources(load_config("miniature", overrides=own))
    with pytest.raises(ConfigError, match=r"model\.base: /nope"):
        check_sources(load_config("miniature", overrides=["model.base=/nope"]))
    check_sources(load_config("miniature"))


def test_check_names_what_the_model_cannot_do_before_a_weight_is_loaded(tmp_path: Path) -> None:
    base = tmp_path / "flow"
    build("sd3").save_pretrained(base)
    asked = [f"model.base={base}", "evaluation.judges=miniature"]
    with pytest.raises(ConfigError, match="attributes are read at 32 x 32 pixels, the model draws 64 x 64"):
        check_sources(load_config("miniature", overrides=asked))
    with pytest.raises(ConfigError, match=r"sampling\.scheduler: ddim cannot follow a flow; set it to one of euler"):
        check_sources(load_config("miniature", overrides=[*asked, "sampling.scheduler=ddim"]))
    (base / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"transformer: holds no \.safetensors weights"):
        check_sources(load_config("miniature", overrides=asked))


@pytest.mark.parametrize("override", ["run.name=other", "evaluation={prompts: 5}", "data.rows=3", "train.beta=2"])
def test_evaluate_takes_only_settings_of_the_evaluation(played: Played, override: str) -> None:
    from flows.past_run import PastRun

    with pytest.raises(ConfigError, match=r"only evaluation\.\* and execution\.\*"):
        PastRun.open(str(played.root), "tiny", [override])


def test_check_names_an_optimizer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("miniature", overrides=["train.optimizer=adamw_8bit"])
    monkeypatch.setattr("spin.diffusion.optimizers.installed", lambda package: "not installed")
    with pytest.raises(ConfigError, match=r"train\.optimizer: adamw_8bit needs bitsandbytes 0\.50"):
        check_training(config)


def test_check_names_a_kernel_that_the_named_device_does_not_have() -> None:
    asked = ["execution.attention=efficient", "execution.device=cpu"]
    with pytest.raises(ConfigError, match=r"execution\.attention: a CPU has no efficient kernel"):
        check_attention(load_config("miniature", overrides=asked))
    check_attention(load_config("miniature", overrides=asked[:1]))  # there may be a GPU
