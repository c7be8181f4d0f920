"""Every setting of a run: its type, range, default (the embedded miniature) and where the default comes from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from spin.core.config_approximation import ApproximatedSection
from spin.core.config_evaluation import EvaluationConfig, Scheduler
from spin.core.config_execution import ExecutionConfig
from spin.core.config_publish import PublishConfig
from spin.core.config_rules import (
    broken_rules,
    check_benchmark,
    check_benchmarks,
    check_checker,
    check_cron,
    check_metric,
    check_run_name,
    check_timezone,
    check_variable,
)
from spin.core.config_setting import (
    CHOSEN,
    FOREVER,
    LIST,
    MANY,
    MEASURED,
    PAPER,
    Name,
    Section,
    setting,
)
from spin.core.config_training import SftConfig, TrainConfig
from spin.core.layout import iteration_name


class RunConfig(Section):
    """The run's name, seed and place."""

    name: Annotated[str, AfterValidator(check_run_name)] = setting(
        "miniature",
        "name of the run and of its folder",
        source=CHOSEN,
        limits="1 to 64 letters, digits, '.', '_' or '-', a letter or digit first; not cache or evaluations",
    )
    seed: int = setting(0, "seed of every random draw of the run", source=CHOSEN, ge=0, le=2**32 - 1)
    root: Name = setting("runs", "folder that holds all runs", source=CHOSEN)


class DataConfig(Section):
    """The real images and their captions."""

    source: Literal["miniature", "imagefolder", "parquet", "webdataset", "pickapic"] = setting(
        "miniature",
        "the embedded world, your own pictures, or Pick-a-Pic",
        source=CHOSEN,
    )
    path: Name | None = setting(
        None,
        "folder, file or glob of your pictures; of Pick-a-Pic also OWNER/NAME on the hub; else null",
        source=CHOSEN,
    )
    image_column: Name = setting("image", "column with the pictures", source="the datasets library's imagefolder")
    caption_column: Name = setting("text", "column with the captions", source="the datasets library's usual name")
    captions: Literal["one", "first", "all", "drawn"] = setting(
        "one",
        "of several (list, .txt lines): not taken apart, the first, a row each, one drawn",
        source=CHOSEN,
    )
    loser_column: Name | None = setting(
        None,
        "column with the dispreferred picture of each caption; rows without one are left out; null for none",
        source=CHOSEN,
    )
    pairs: bool = setting(
        False,
        "read Pick-a-Pic's losers too; rows without a whole one are left out; Pick-a-Pic only",
        source=f"{PAPER}: winners are enough",
    )
    target: Literal["winners", "clean"] = setting(
        "winners",
        "real images of the miniature: best of three draws (winners) or faultless ones (clean); miniature only",
        source=f"{MEASURED}; winners are what Pick-a-Pic gives",
    )
    rows: int | None = setting(
        None, "train rows to use, from the first; held-out ones all stay; null for all", source=CHOSEN, ge=1, le=FOREVER
    )
    held_out_share: float = setting(
        0.1, "share of your own rows kept from training, half validation, half test", source=CHOSEN, gt=0, lt=1
    )
    max_bad_share: float = setting(
        0.1, "share of unusable rows up to which a run goes on without them", source=CHOSEN, ge=0, le=1
    )
    max_image_pixels: int = setting(
        89_478_485, "pictures with more pixels are refused", source="Pillow's MAX_IMAGE_PIXELS", ge=1, le=2**40
    )
    resolution: int | None = setting(
        None,
        "side of the square training image in pixels; null for the model's own",
        source="the base model",
        ge=8,
        le=8192,
        multiple_of=8,
    )
    crop: Literal["center", "random"] = setting(
        "center",
        "square of an oblong picture: its middle, or one drawn by the row's identity",
        source="diffusers' training scripts",
    )
    aspect_ratio: Literal["square", "buckets"] = setting(
        "square",
        "train pictures: the model's own square, or the nearest of sizes of its area (buckets)",
        source="SDXL, arXiv 2307.01952, Section 2.3",
    )
    bucket_step: int = setting(
        64, "sides of all buckets are multiples of it, in pixels", source="SDXL, Section 2.3", ge=8, le=1024,
        multiple_of=8,
    )  # fmt: skip
    bucket_ratio: float = setting(
        2.0, "longest bucket, long side by short one; longer pictures are cropped", source=CHOSEN,
        ge=1, le=16,
    )  # fmt: skip


class ModelConfig(Section):
    """The base model."""

    base: Name = setting("miniature", "base model: miniature, a diffusers folder or a hub id", source=CHOSEN)


class SamplingConfig(ApproximatedSection):
    """How the opponent draws its images."""

    num_inference_steps: int = setting(20, "solver steps an image", source=f"{PAPER}, cost table", ge=1, le=1000)
    scheduler: Scheduler = setting("dpmsolver++", "the opponent's solver", source=f"{PAPER}, cost table")
    guidance_scale: float = setting(
        1.0, "guidance of the opponent's images; 1 is none", source=f"{MEASURED}: 3 breaks it", ge=1, le=100
    )
    batch_size: int = setting(
        64, "images in one padded micro-batch; part of the plan, it moves bits", source=MEASURED, ge=1, le=MANY
    )
    shard_size: int = setting(128, "images in one shard, the unit of commit and rerun", source=CHOSEN, ge=1, le=MANY)
    draws: int = setting(1, "images drawn for each row", source=PAPER, ge=1, le=1000)
    rows: Literal["read", "all"] = setting(
        "read", "rows that are drawn: those that training will read, or all train rows (paper)", source=CHOSEN
    )
    loser_source: Literal["latents", "roundtrip"] = setting(
        "latents", "train on the sampler's latents, or decode and encode them again (roundtrip)", source=CHOSEN
    )
    store_images: bool = setting(False, "also store the decoded pictures in the shards", source=CHOSEN)
    compile: bool = setting(False, "torch.compile the network", source=f"{MEASURED}: no gain on a CPU")


Precaution = Literal["off", "flag", "drop"]


class SafetyConfig(Section):
    """What is done about unsafe pictures, the real ones and the models' own."""

    real: Precaution = setting(
        "off", "real pictures: not looked at, marked in prompts.parquet (flag), or left out (drop)",
        source=CHOSEN,
    )  # fmt: skip
    generated: Precaution = setting(
        "off",
        "models' pictures: not looked at, marked (flag), or also not trained on nor shown (drop)",
        source=CHOSEN,
    )
    checker: Annotated[str, AfterValidator(check_checker)] = setting(
        "diffusers",
        "who judges: diffusers' CLIP checker, or a callable of yours marked with spin.core.safety.safety_checker",
        source="diffusers' StableDiffusionSafetyChecker",
        limits="diffusers, or package.module:function, whose module is imported, and so runs, before the mark is seen",
    )
    model: Name | None = setting(
        None,
        "folder or hub id with safety_checker and feature_extractor; null for the base model's own",
        source=CHOSEN,
    )


class GateConfig(Section):
    """Whether a new model goes on to the next iteration, decided after each evaluation."""

    mode: Literal["off", "rules", "person"] = setting(
        "off", "nobody asks (off), rules decide, or a person does while the run is suspended", source=CHOSEN
    )
    metric: Annotated[str, AfterValidator(check_metric)] = setting(
        "auto",
        "score whose gain over the model before must exclude 0; auto takes any judge's",
        source=CHOSEN,
        limits="auto, or the name of a judge",
    )
    benchmark: Annotated[str, AfterValidator(check_benchmark)] = setting(
        "validation",
        "prompts that decide, scored beside evaluation.benchmarks; the test prompts stay unseen until the end",
        source=CHOSEN,
        limits="as one of evaluation.benchmarks",
    )
    limit_hours: float = setting(24.0, "hours that a person has", source=CHOSEN, gt=0, le=8760)
    default: Literal["go-on", "stop", "go-back"] = setting(
        "go-on", "what is done where nobody answers in time", source=CHOSEN
    )


class NightlyConfig(Section):
    """The scheduled evaluation; `deploy` and `serve` read it."""

    cron: Annotated[str, AfterValidator(check_cron)] = setting(
        "30 4 * * *",
        "when, in five fields",
        source="a local hour that no time zone skips or repeats in ten years",
        limits="minute, hour, day, month, weekday; hours 0 to 3 are skipped or repeated once a year in many zones",
    )
    timezone: Annotated[str, AfterValidator(check_timezone)] = setting(
        "UTC", "time zone of the cron fields", source=CHOSEN, limits="a name of the IANA data base, as Europe/Berlin"
    )
    benchmarks: Annotated[tuple[Name, ...], LIST, AfterValidator(check_benchmarks)] = setting(
        ("test",), "prompts to score, as evaluation.benchmarks", source=CHOSEN
    )


class NotificationConfig(Section):
    """Who hears of a failed run; `deploy` and `serve` read it."""

    webhook_variable: Annotated[str, AfterValidator(check_variable)] | None = setting(
        None,
        "environment variable that holds the URL to call when a run fails; null for none",
        source="a URL with a token in it must not stand in a config",
        limits="the name of a variable, not the URL",
    )


class Config(Section):
    """All settings of a run."""

    run: RunConfig = Field(default_factory=RunConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)
    iterations: int = setting(3, "rounds of self-play; 0 for supervised fine-tuning alone", source=PAPER, ge=0, le=99)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    sft: SftConfig = Field(default_factory=SftConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    safety: SafetyConfig = Field(default_factory=SafetyConfig)
    gate: GateConfig = Field(default_factory=GateConfig)
    nightly: NightlyConfig = Field(default_factory=NightlyConfig)
    notification: NotificationConfig = Field(default_factory=NotificationConfig)
    publish: PublishConfig = Field(default_factory=PublishConfig)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the models that a run makes, in their order."""
        rounds = (iteration_name(number) for number in range(1, self.iterations + 1))
        return (*(("sft",) if self.sft.steps else ()), *rounds)

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        broken = broken_rules(self.model_dump())
        if broken:
            raise ValueError("; ".join(f"{'.'.join(path)}: {message}" for path, message in broken))
        return self
