"""How a checkpoint is scored: prompts, protocol, pictures, judges."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag

from spin.core.config_rules import check_benchmarks, check_scorers
from spin.core.config_setting import CHOSEN, FOREVER, LIST, MANY, MEASURED, PAPER, Name, Section, setting, shape

_Scorer = Literal[
    "alignment",
    "aesthetic",
    "attributes",
    "pickscore",
    "hpsv2",
    "image_reward",
    "frechet",
    "frechet_clean",
    "diversity",
]
Scheduler = Literal[
    "dpmsolver++", "unipc", "deis", "euler", "ddim", "pndm", "dpmsolver++karras", "eulerkarras", "edm",
]  # fmt: skip
Scorers = Annotated[
    Annotated[Literal["auto"], Tag("scalar")] | Annotated[tuple[_Scorer, ...], LIST, Tag("list")],
    Discriminator(shape),
    BeforeValidator(check_scorers),
]


class EvaluationConfig(Section):
    """How a checkpoint is scored."""

    benchmarks: Annotated[tuple[Name, ...], LIST, AfterValidator(check_benchmarks)] = setting(
        ("test",),
        "prompts to score; gate and verdict read the first",
        source=CHOSEN,
        limits="test or validation (held out of your data), pickapic_test, partiprompts, hpsv2, paper_figures, one of"
        " these as NAME=PATH from local files, or the path of a file of prompts",
    )
    protocol: Literal["single", "best_of_n"] = setting(
        "single",
        "one picture a prompt, or the best of several (paper)",
        source=f"{CHOSEN}; {PAPER} takes best_of_n",
    )
    images_per_prompt: int = setting(5, "pictures a prompt of best_of_n", source=f"{PAPER}, protocol", ge=2, le=1000)
    diversity_prompts: int = setting(
        16, "prompts that get several pictures for the diversity of single", source=CHOSEN, ge=0, le=FOREVER
    )
    diversity_images: int = setting(4, "pictures of each of them", source=CHOSEN, ge=2, le=1000)
    scheduler: Scheduler = setting("dpmsolver++", "solver of scored images", source=MEASURED)
    prompts: int | None = setting(None, "number of prompts; null for all", source=CHOSEN, ge=1, le=FOREVER)
    guidance_scale: float = setting(3.0, "guidance of the scored images; 1 is none", source=MEASURED, ge=1, le=100)
    num_inference_steps: int = setting(20, "solver steps an image", source=MEASURED, ge=1, le=1000)
    seed: int = setting(5_775_709, "seed of the scored images", source=f"{PAPER}, protocol", ge=0, le=2**32 - 1)
    batch_size: int = setting(64, "images in one padded micro-batch", source=MEASURED, ge=1, le=MANY)
    shard_size: int = setting(128, "images in one shard, the unit of commit and rerun", source=CHOSEN, ge=1, le=MANY)
    judges: Literal["auto", "miniature", "published"] = setting(
        "auto", "who made the judges; auto: miniature for its own base model",
        source=CHOSEN,
    )  # fmt: skip
    scorers: Scorers = setting("auto", "judges and other numbers; auto takes all that fit", source=CHOSEN)
    scorers_folder: Name | None = setting(
        None, "folder with the published judges' files (FOLDER/pickscore/...); null for the hub", source=CHOSEN
    )
    hps_version: Literal["v2.0", "v2.1"] = setting("v2.0", "weights of HPSv2", source=f"{PAPER}; v2.1 differs")
    hps_antialias: bool = setting(
        True, "antialias of HPSv2's resizing; moves scores by up to 0.027", source="torchvision's default since 0.17"
    )
    scorer_dtype: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "precision of the published judges' towers", source="the references"
    )
    max_bad_share: float = setting(
        0.01, "share of pictures that cannot be judged up to which an evaluation goes on", source=CHOSEN, ge=0, le=1
    )
    denoising_draws: int = setting(8, "draws of time and noise for each held-out image", source=CHOSEN, ge=1, le=1000)
