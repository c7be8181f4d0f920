from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spin.core.errors import ConfigError
from spin.core.progress import silent
from spin.core.requests import from_json, from_text, to_json
from spin.sample.request import SampleRequest, SampleResult
from spin.train.request import TrainingSettings, TrainRequest, TrainResult

SAMPLE = SampleRequest(
    stage=Path("runs/a b/iteration-01"), shards=(0, 7), opponent=Path("/models/x"), opponent_digest="d" * 64,
    text=Path("text.parquet"), guidance_scale=1.0, num_inference_steps=2, batch_size=8, loser_source="latents",
    store_images=False, compile=False, device="cpu", dtype="float32", threads=1,
)  # fmt: skip
SETTINGS = TrainingSettings(
    objective="spin", steps=6, batch_size=4, micro_batch_size=4, lr=3e-5, warmup_steps=2, lr_schedule="constant",
    weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, max_grad_norm=1.0, caption_dropout=0.15,
    flip=False, posterior_sample=True, ema_decay=None, gradient_checkpointing=False, state_every_steps=2,
    held_out_every_steps=100, beta=1000.0, sft_weight=0.03,
)  # fmt: skip
TRAIN = TrainRequest(
    stage=Path("s"), start=Path("m"), start_digest="d", prompts=Path("p"), real=Path("r"), text=Path("t"), draws=1,
    run_seed=0, settings=SETTINGS, device="cpu", dtype="float32", threads=1,
)  # fmt: skip
MESSAGES = [
    SAMPLE,
    TRAIN,
    replace(TRAIN, settings=replace(SETTINGS, ema_decay=0.999, lr=0.1 + 0.2)),
    SampleResult((), 0, 0.1, ("compiled without success",)),
    TrainResult(Path("c"), "d", 6, 24, 1.5, ()),
]


def written(folder: Path, content: bytes) -> Path:
    (folder / "request.json").write_bytes(content)
    return folder / "request.json"


def changed(**values: object) -> bytes:
    return json.dumps(json.loads(to_json(SAMPLE)) | values).encode()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_equal(tmp_path: Path, message: object) -> None:
    assert from_json(type(message), written(tmp_path, to_json(message))) == message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "is no SampleRequest"),
        (changed(batch_size="eight"), "batch_size: Input should be a valid integer"),
        (changed(batch_size="8"), "batch_size"),
        (changed(batch_size=8.5), "batch_size"),
        (changed(shards=[0, "1"]), "shards.1"),
        (changed(loser_source="pixels"), "loser_source: Input should be 'latents' or 'roundtrip'"),
        (changed(stage=None), "stage"),
        (changed(batchsize=8), "batchsize: unknown field"),
        (b'{"stage": "a"}', "shards"),
        (b"\xff", "is no SampleRequest"),
    ],
)
def test_a_wrong_message_is_one_line_that_names_the_field(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_json(SampleRequest, written(tmp_path, content))
    assert words in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/request.json: ")
    assert "\n" not in str(error.value)


def test_a_request_on_one_line_comes_back_equal_and_is_named_where_it_is_wrong() -> None:
    line = to_json(TRAIN).replace(b"\n", b" ")
    assert from_text(TrainRequest, line, where="request") == TRAIN
    with pytest.raises(ConfigError, match=r"^request: is no SampleRequest: "):
        from_text(SampleRequest, line, where="request")


def test_an_unknown_field_is_named_at_any_depth(tmp_path: Path) -> None:
    raw = json.loads(to_json(TRAIN))
    raw["settings"]["learning_rate"] = 1
    with pytest.raises(ConfigError, match=r"settings\.learning_rate: unknown field"):
        from_json(TrainRequest, written(tmp_path, json.dumps(raw).encode()))


def test_a_missing_request_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        from_json(SampleRequest, tmp_path / "none.json")


def test_silence_is_a_progress_too() -> None:
    silent(1, 2)
    silent(1, 2, "note")
