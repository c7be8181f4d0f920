"""What the evaluate room is asked and what it answers; paths and exact values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spin.core.approximation import EXACT, Approximation
from spin.core.memory import Knob, halved
from spin.core.safety import Safety

Protocol = Literal["single", "best_of_n"]
Judges = Literal["miniature", "published"]


@dataclass(frozen=True)
class EvaluateRequest:
    runs_root: Path
    subject: Path | None  # checkpoint (diffusers folder); None: the real held-out images
    subject_digest: str
    benchmark: str  # test or validation: held-out rows of `real`; else the name of the prompt set
    prompts: Path | None  # the prompt set; None: held-out rows
    real: Path | None  # cache folder with held-out.parquet and real.parquet; None: no real images to compare with
    data_digest: str  # of the held-out data, or of the prompt set
    max_prompts: int | None
    protocol: Protocol
    images_per_prompt: int  # of best_of_n
    diversity_prompts: int  # of single: so many prompts get `diversity_images` pictures each
    diversity_images: int
    scheduler: str
    guidance_scale: float
    num_inference_steps: int
    seed: int
    batch_size: int
    shard_size: int  # pictures in one file, about: all pictures of a prompt stand in one
    shards: tuple[int, ...] | None  # None: all of them
    finish: bool  # after the shards, the numbers of the whole set; every shard must stand then
    judges: Judges
    scorers: tuple[str, ...]
    scorers_folder: Path | None  # the published judges' files; None: from the hub
    hps_version: str
    hps_antialias: bool
    scorer_dtype: str
    max_bad_share: float  # of pictures that cannot be judged
    denoising_draws: int  # of a real image; 0: its denoising error is not asked
    device: str
    dtype: str
    threads: int
    attention: str = "auto"  # kernel of the denoiser's attention, execution.attention
    safety: Safety | None = None  # marks a model's pictures; real ones are looked at when they are prepared
    check_pictures: int = 0  # of those that stand, how many are drawn and scored again and compared
    approximation: Approximation = EXACT  # what drawing leaves out
    store_latents: bool = False  # also what the pictures are decoded from

    @property
    def memory_knobs(self) -> tuple[Knob, ...]:
        """What takes less memory."""
        return (halved("evaluation.batch_size", self.batch_size),)


@dataclass(frozen=True)
class EvaluateResult:
    folder: Path  # an EvaluationFolder of core.layout
    images_made: int
    images_scored: int  # 0 where the evaluation stood
    seconds: float
    made: tuple[int, ...] = ()  # shards that this call made something of
    checked: int = 0  # pictures drawn and scored again
    differing: int = 0  # of these, those of which a pixel or a score is not equal to what stands
    largest_pixel_difference: float = 0.0  # of a pixel, in 0..1
    largest_score_difference: float = 0.0  # of a judge's score, in its unit
    notes: tuple[str, ...] = ()
    flagged: int = 0  # of the pictures that this call looked at, those that are marked as unsafe
