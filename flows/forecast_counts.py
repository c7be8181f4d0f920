"""From the config and a model's architecture to what the run's work takes: operations and bytes, counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.forecast_work import bucket_padding, evaluated_by, sampled_by, trained_by
from spin.core.config import Config
from spin.core.config_rules import judges_of
from spin.core.counted import Drawing, Flops, Learning, Looking, Passes, Sizes
from spin.core.gpus import DRAWING_SHARE, TRAINING_SHARE, Speed
from spin.core.outline import Rows, Unit, encoded_pictures, looked_at_pictures
from spin.core.safety import DIFFUSERS
from spin.prepare.base import local_folder

if TYPE_CHECKING:
    from spin.diffusion.probe import Rates

_JUDGES: Final = Flops(matrix=1.0e12)  # the four published ones, of a picture: 0.97 to 1.06 TFLOP by its size


@dataclass(frozen=True)
class Counts:
    """All that is counted for a run."""

    sizes: Sizes
    passes: Passes
    sft: Learning | None
    train: Learning | None
    sampled: Drawing | None
    evaluated: Drawing
    preparing_bytes: int  # at the most while data is encoded
    checker: Looking | None = None  # diffusers', where one looks; of a user's own nothing is known


def count(config: Config, folder: Path, *, processes: int) -> Counts:
    """Build the model without weights and send it through each kind of work.

    Args:
        processes: of a training, which share its batch.
    """
    from spin.diffusion.counting import (  # torch: only `plan` pays for it here
        count_drawing,
        count_passes,
        count_preparing,
        count_sizes,
    )
    from spin.diffusion.skeleton import Skeleton
    from spin.prepare.passes import TEXT_BATCH, picture_batch

    skeleton = Skeleton.of(folder)
    passes = count_passes(skeleton)
    samples = config.iterations > 0 and config.train.losers == "generated"
    sft, train = count_trainings(config, folder, processes=processes)
    return Counts(
        sizes=count_sizes(skeleton),
        passes=passes,
        sft=sft,
        train=train,
        sampled=count_drawing(skeleton, sampled_by(config), passes) if samples else None,
        evaluated=count_drawing(skeleton, evaluated_by(config), passes),
        preparing_bytes=count_preparing(
            skeleton, pictures=picture_batch(skeleton.picture_size), prompts=TEXT_BATCH
        ),
        checker=_count_checker(config, folder),
    )  # fmt: skip


def count_trainings(config: Config, folder: Path, *, processes: int) -> tuple[Learning | None, Learning | None]:
    """Supervised training and a round of self-play; None for what the run does not do."""
    from spin.diffusion.counting import count_learning  # torch: only `plan` pays for it here
    from spin.diffusion.skeleton import Skeleton

    skeleton, sft, train = Skeleton.of(folder), config.sft, config.train
    return (
        count_learning(skeleton, trained_by(config, sft, processes)) if sft.steps else None,
        count_learning(skeleton, trained_by(config, train, processes)) if config.iterations else None,
    )


def _count_checker(config: Config, folder: Path) -> Looking | None:
    from spin.diffusion.counting import count_looking  # torch: only `plan` pays for it here

    asked = config.safety
    if (asked.real, asked.generated) == ("off", "off") or asked.checker != DIFFUSERS:
        return None
    return count_looking(folder if asked.model is None else local_folder(asked.model))


def seconds_by_speed(config: Config, counts: Counts, rows: Rows, speed: Speed) -> dict[Unit, float]:
    """Of one unit of each kind of work on one device that is so fast."""

    def seconds(flops: Flops, dtype: str) -> float:
        return speed.seconds(flops, dtype=dtype, share=DRAWING_SHARE)

    return _with_looks(config, counts, rows, tried_by_speed(config, counts, speed), seconds)


def seconds_by_probe(config: Config, counts: Counts, rows: Rows, rates: Rates) -> dict[Unit, float]:
    """The same as it was measured here; what a probe does not try goes by the rate that drawing reaches."""
    a_flop = rates.evaluated_image / (counts.evaluated.denoised + counts.evaluated.vae).total
    tried: dict[Unit, float] = {
        "sampled": rates.sampled_image, "evaluated": rates.evaluated_image, "sft": rates.sft_image, "pair": rates.pair,
    }  # fmt: skip
    return _with_looks(config, counts, rows, tried, lambda flops, _: flops.total * a_flop)


def tried_by_speed(config: Config, counts: Counts, speed: Speed) -> dict[Unit, float]:
    """Seconds by operations of what a probe tries: drawing and training, without those that look at pictures."""
    dtype = config.execution.dtype

    def drawn(found: Drawing | None) -> float:
        if found is None:
            return 0.0
        denoised, vae = (found.denoised, dtype), (found.vae, found.vae_dtype)
        return sum(speed.seconds(flops, dtype=own, share=DRAWING_SHARE) for flops, own in (denoised, vae))

    def learned(found: Learning | None) -> float:
        return 0.0 if found is None else speed.seconds(found.flops, dtype=dtype, share=TRAINING_SHARE)

    return {
        "sampled": drawn(counts.sampled), "evaluated": drawn(counts.evaluated), "sft": learned(counts.sft),
        "pair": learned(counts.train),
    }  # fmt: skip


def _with_looks(
    config: Config, counts: Counts, rows: Rows, tried: Mapping[Unit, float], seconds: Callable[[Flops, str], float]
) -> dict[Unit, float]:
    """Preparing, judges and a safety checker added, by the seconds of forward passes in a precision."""
    checker = None if config.safety.generated == "off" else counts.checker
    checked = 0.0 if checker is None else seconds(checker.flops, "float32")
    published = judges_of(config.model_dump()) == "published"
    judged = seconds(_JUDGES, config.evaluation.scorer_dtype) if published else 0.0
    return {
        **tried,
        "prepared": seconds(_prepared(config, counts, rows), "float32"),
        "sampled": (tried["sampled"] + checked) * bucket_padding(config, side=counts.sizes.picture),
        "evaluated": tried["evaluated"] + checked + judged,
    }


def _prepared(config: Config, counts: Counts, rows: Rows) -> Flops:
    """Of one picture that is encoded, and its share of the captions and of a checker's looks."""
    encoded = encoded_pictures(config, rows)
    captions = rows.prompts / encoded if rows.prompts and encoded else 1.0
    looks = looked_at_pictures(config, rows) / encoded if counts.checker is not None and encoded else 0.0
    checked = Flops() if counts.checker is None else counts.checker.flops * looks
    return counts.passes.encoded + counts.passes.prompt * captions + checked
