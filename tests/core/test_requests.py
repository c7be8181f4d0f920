from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from spin.core.door import serve
from spin.core.errors import ArtifactError, ConfigError
from spin.core.progress import Progress, silent
from spin.core.requests import from_json, to_json
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


def test_an_unknown_field_is_named_at_any_depth(tmp_path: Path) -> None:
    raw = json.loads(to_json(TRAIN))
    raw["settings"]["learning_rate"] = 1
    with pytest.raises(ConfigError, match=r"settings\.learning_rate: unknown field"):
        from_json(TrainRequest, written(tmp_path, json.dumps(raw).encode()))


def test_a_missing_request_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        from_json(SampleRequest, tmp_path / "none.json")


@dataclass(frozen=True)
class Question:
    number: int


@dataclass(frozen=True)
class Answer:
    number: int


def room(request: Question, *, progress: Progress = silent) -> Answer:
    """A room small enough to see through."""
    if request.number < 0:
        raise ArtifactError("is below zero", where="question", fix="ask again")
    progress(1, 2, "half")
    return Answer(request.number + 1)


def test_a_door_writes_the_answer_and_tells_progress_as_json_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = written(tmp_path, to_json(Question(1))), tmp_path / "result.json"
    assert serve(Question, room, [str(source), str(target)]) == 0
    assert from_json(Answer, target) == Answer(2)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"done": 1, "total": 2, "note": "half"}
    ]


def test_a_door_tells_what_went_wrong_in_one_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = written(tmp_path, to_json(Question(-1))), tmp_path / "result.json"
    assert serve(Question, room, [str(source), str(target)]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": "ArtifactError", "message": "question: is below zero; ask again",
    }  # fmt: skip
    assert not target.exists()


@pytest.mark.parametrize("arguments", [[], ["one"], ["1", "2", "3"], ["none.json", "result.json"]])
def test_a_door_refuses_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(Question, room, arguments) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "ConfigError"


def test_silence_is_a_progress_too() -> None:
    silent(1, 2)
    silent(1, 2, "note")
