"""Rules of the gate, the nightly evaluation and the notification."""

from __future__ import annotations

import pytest

from spin.core.config import load_config
from spin.core.config_explain import limits_of
from spin.core.config_identity import config_hash
from spin.core.errors import ConfigError

OBLONG = ["data.source=imagefolder", "data.path=own", "data.aspect_ratio=buckets"]
PICKAPIC = ["data.source=pickapic", "data.path=owner/name"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nightly.cron=every night", "five fields"),
        ("nightly.cron=30 4 * *", "five fields"),
        ("nightly.timezone=Mars/Olympus", "no time zone 'Mars/Olympus'"),
        ("nightly.timezone=../../etc/passwd", "no time zone"),
        ("nightly.benchmarks=[train]", "one of test, validation"),
        ("notification.webhook_variable=https://hooks/secret", "name of an environment variable"),
        ("gate.metric=taste", "one of alignment, aesthetic, attributes"),
        ("gate.mode=maybe", "one of off, rules, person"),
        ("gate.limit_hours=0", "above 0"),
        ("execution.executor=cloud", "one of local, workers"),
        ("execution.max_attempts=0", "at least 1"),
        ("execution.report_to=[tensorboard, wandbb]", "list of aim, .*wandb; got 'wandbb'"),
        ("execution.report_to=3", "expected a list, got 3"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config("miniature", overrides=[override])
    assert override.partition("=")[0] in str(caught.value)


def test_a_webhook_given_as_url_is_not_echoed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("miniature", overrides=["notification.webhook_variable=[a b]"])
    assert "webhook_variable" in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (["gate.metric=aesthetic", "gate.mode=rules"], False),
        (["gate.metric=aesthetic", "gate.mode=rules", "evaluation.scorers=[alignment]"], True),
        (["gate.metric=aesthetic", "gate.mode=off", "evaluation.scorers=[alignment]"], False),
        (["gate.metric=auto", "gate.mode=rules", "evaluation.scorers=[alignment]"], False),
        (["gate.metric=aesthetic", "gate.mode=rules", "data.source=imagefolder", "data.path=x"], True),
    ],
)
def test_a_gate_waits_only_for_a_judge_that_judges(overrides: list[str], refused: bool) -> None:
    if refused:
        with pytest.raises(ConfigError, match="aesthetic does not judge this run"):
            load_config("miniature", overrides=overrides)
    else:
        load_config("miniature", overrides=overrides)


@pytest.mark.parametrize(
    "override",
    ["gate.mode=rules", "nightly.cron=0 5 * * *", "notification.webhook_variable=HOOK", "execution.executor=workers",
     "execution.shards_per_child=2", "execution.max_attempts=5", "execution.overlap=true",
     "execution.overlap_minutes=5", "execution.train_processes=2",
     "execution.report_to=none"],
)  # fmt: skip
def test_who_works_decides_or_is_told_does_not_make_another_run(override: str) -> None:
    assert config_hash(load_config("miniature", overrides=[override])) == config_hash(load_config("miniature"))


@pytest.mark.parametrize(
    ("written", "trackers"),
    [
        ("none", ()), ("[]", ()), ("null", ()), ("wandb", ("wandb",)),
        ("[wandb, tensorboard, wandb]", ("wandb", "tensorboard")),
    ],
)  # fmt: skip
def test_trackers_are_a_list_one_name_or_none(written: str, trackers: tuple[str, ...]) -> None:
    assert load_config("miniature", overrides=[f"execution.report_to={written}"]).execution.report_to == trackers


@pytest.mark.parametrize("override", ["execution.dtype=bfloat16", "execution.threads=2", "evaluation.shard_size=7"])
def test_what_moves_bits_makes_another_run(override: str) -> None:
    assert config_hash(load_config("miniature", overrides=[override])) != config_hash(load_config("miniature"))


@pytest.mark.parametrize(
    ("key", "limits"),
    [
        ("iterations", {"ge": 0, "le": 99}),
        ("train.beta", {"gt": 0, "le": 1e9}),
        ("execution.train_processes", {"ge": 1, "le": 1024}),
        ("gate.limit_hours", {"gt": 0, "le": 8760}),
        ("model.base", {}),
    ],
)
def test_limits_of_a_key_are_those_of_the_config(key: str, limits: dict[str, float]) -> None:
    assert limits_of(key) == limits


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.losers=labelled"], None),
        (["train.losers=labelled", "data.target=clean"], "labelled has no losers with data.target clean"),
        (
            ["data.source=parquet", "data.path=x", "train.losers=labelled"],
            "labelled needs losers",
        ),
        (["data.source=parquet", "data.path=x", "train.losers=labelled", "data.loser_column=worse"], None),
        (["data.loser_column=worse"], "has no use with data.source miniature, whose winners"),
        ([*PICKAPIC, "train.losers=labelled"], "labelled needs losers; set data.pairs to true"),
        ([*PICKAPIC, "train.losers=labelled", "data.pairs=true"], None),
        ([*PICKAPIC, "data.loser_column=worse"], "has no use with data.source pickapic, whose losers data.pairs asks"),
        (["data.pairs=true"], "is of data.source pickapic; losers of your own are in data.loser_column"),
        (["data.source=webdataset", "data.path=x", "train.losers=labelled"], "set data.loser_column"),
    ],
)
def test_labelled_losers_must_come_with_the_data(overrides: list[str], message: str | None) -> None:
    if message is None:
        load_config("miniature", overrides=overrides)
    else:
        with pytest.raises(ConfigError, match=message):
            load_config("miniature", overrides=overrides)


@pytest.mark.parametrize("captions", ["first", "all", "drawn"])
def test_several_captions_are_of_own_data(captions: str) -> None:
    with pytest.raises(ConfigError, match=r"has no use with data.source miniature, whose pictures have"):
        load_config("miniature", overrides=[f"data.captions={captions}"])
    with pytest.raises(ConfigError, match=r"has no use with data.source pickapic, whose"):
        load_config("miniature", overrides=[*PICKAPIC, f"data.captions={captions}"])
    load_config("miniature", overrides=["data.source=webdataset", "data.path=x", f"data.captions={captions}"])


@pytest.mark.parametrize("path", ["s3://key:secret@bucket/a", "https://user:@host/a.tar"])
def test_a_password_in_a_url_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"holds a password; leave it to the file system's own environ"):
        load_config("miniature", overrides=["data.source=parquet", f"data.path='{path}'"])
    load_config("miniature", overrides=["data.source=parquet", "data.path='s3://bucket/a@b:c/d'"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.trajectory=reverse"], None),
        (["train.trajectory=reverse", "sampling.guidance_scale=3", "sampling.scheduler=ddim"], None),
        (["train.trajectory=reverse", "train.losers=labelled"], "reverse needs the opponent's own images"),
        (["train.trajectory=reverse", "sampling.loser_source=roundtrip"], "set sampling.loser_source to latents"),
        (["train.trajectory=reverse", "sampling.scheduler=pndm"], "pndm repeats some"),
        (
            ["train.trajectory=reverse", "sampling.scheduler=euler"],
            "euler steps between them; set sampling.scheduler to",
        ),
        (
            ["train.trajectory=reverse", "sampling.scheduler=dpmsolver++karras"],
            r"one of dpmsolver\+\+, unipc, deis, ddim",
        ),
        (["train.trajectory=reverse", "sampling.scheduler=edm"], "edm steps between them"),
        (["train.trajectory=reverse", "sampling.scheduler=unipc"], None),
        (["train.trajectory=reverse", "train.flip=true"], "set train.flip to false"),
        (["train.trajectory=reverse", "train.reference=stored"], "set train.reference to live"),
        (["train.reference=stored", "train.safeguard=0.5", "train.timesteps_per_pair=2"], None),
        (
            ["train.compile=true", "execution.train_sharding=full"],
            "full does not go with train.compile; set",
        ),
        (["train.compile=true", "execution.train_sharding=optimizer"], None),
        (["train.flip=true"], "true needs pictures of both sides; set sampling.loser_source to roundtrip"),
        (["train.flip=true", "sampling.loser_source=roundtrip"], None),
        (["train.flip=true", "train.losers=labelled"], None),
        (["train.flip=true", "iterations=0"], None),
        (["data.aspect_ratio=buckets"], "buckets has no use with data.source miniature, whose pictures are square"),
        (OBLONG, None),
        (["train.opponent=average"], None),
        (["train.opponent=average", "train.losers=labelled"], "has no use with train.losers labelled"),
        (["train.opponent=earlier", "train.losers=labelled"], "has no use with train.losers labelled"),
    ],
)
def test_what_only_a_drawing_opponent_can_do_is_refused_elsewhere(overrides: list[str], message: str | None) -> None:
    if message is None:
        load_config("miniature", overrides=overrides)
    else:
        with pytest.raises(ConfigError, match=message):
            load_config("miniature", overrides=overrides)
