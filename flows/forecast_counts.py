"""From the config and a model's architecture to what the run's work takes: operations and bytes, counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spin.core.config import Config
from spin.core.config_rules import judges_of
from spin.core.config_training import SftConfig, TrainConfig
from spin.core.counted import Drawing, Flops, Learning, Passes, Sizes
from spin.core.gpus import DRAWING_SHARE, TRAINING_SHARE, Speed
from spin.core.outline import Rows, Unit

if TYPE_CHECKING:
    from spin.diffusion.counting import Drawn, Trained
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
        sampled=count_drawing(skeleton, _sampled(config), passes) if samples else None,
        evaluated=count_drawing(skeleton, _evaluated(config), passes),
        preparing_bytes=count_preparing(
            skeleton, pictures=picture_batch(skeleton.picture_size), prompts=TEXT_BATCH
        ),
    )  # fmt: skip


def count_trainings(config: Config, folder: Path, *, processes: int) -> tuple[Learning | None, Learning | None]:
    """Supervised training and a round of self-play; None for what the run does not do."""
    from spin.diffusion.counting import count_learning  # torch: only `plan` pays for it here
    from spin.diffusion.skeleton import Skeleton

    skeleton, sft, train = Skeleton.of(folder), config.sft, config.train
    return (
        count_learning(skeleton, _trained(config, sft, processes)) if sft.steps else None,
        count_learning(skeleton, _trained(config, train, processes)) if config.iterations else None,
    )


def micro_batch(config: Config, section: SftConfig | TrainConfig, processes: int) -> int:
    """Images or pairs in one pass of one process."""
    return min(config.train.micro_batch_size, max(section.batch_size // processes, 1))


def own_opponent(train: TrainConfig, iterations: int) -> bool:
    """Whether the opponent is a network of its own, not the policy with its adapter off."""
    return train.lora_rank is None or (train.opponent != "previous" and iterations > 1)


def seconds_by_speed(config: Config, counts: Counts, rows: Rows, speed: Speed) -> dict[Unit, float]:
    """Of one unit of each kind of work on one device that is so fast."""
    dtype, judged = config.execution.dtype, _JUDGES if judges_of(config.model_dump()) == "published" else Flops()

    def looked(flops: Flops, precision: str) -> float:
        return speed.seconds(flops, dtype=precision, share=DRAWING_SHARE)

    def drawn(found: Drawing | None) -> float:
        return 0.0 if found is None else looked(found.denoised, dtype) + looked(found.vae, found.vae_dtype)

    def learned(found: Learning | None) -> float:
        return 0.0 if found is None else speed.seconds(found.flops, dtype=dtype, share=TRAINING_SHARE)

    return {
        "prepared": looked(_prepared(counts, rows), "float32"),
        "sampled": drawn(counts.sampled),
        "sft": learned(counts.sft),
        "pair": learned(counts.train),
        "evaluated": drawn(counts.evaluated) + looked(judged, config.evaluation.scorer_dtype),
    }


def seconds_by_probe(counts: Counts, rows: Rows, rates: Rates) -> dict[Unit, float]:
    """The same as it was measured here; encoding by the rate that a supervised step reaches."""
    a_flop = rates.sft_image / (3 * counts.passes.denoised.total)
    return {
        "prepared": _prepared(counts, rows).total * a_flop, "sampled": rates.sampled_image, "sft": rates.sft_image,
        "pair": rates.pair, "evaluated": rates.evaluated_image,
    }  # fmt: skip


def _prepared(counts: Counts, rows: Rows) -> Flops:
    """Of one picture, and its share of a caption."""
    captions = rows.prompts / rows.all if rows.prompts and rows.all else 1.0
    return counts.passes.encoded + counts.passes.prompt * captions


def _trained(config: Config, section: SftConfig | TrainConfig, processes: int) -> Trained:
    from spin.diffusion.counting import Trained

    train, pairs = config.train, isinstance(section, TrainConfig)
    return Trained(
        images=micro_batch(config, section, processes),
        pairs=pairs,
        own_opponent=pairs and own_opponent(train, config.iterations),
        timesteps=train.timesteps_per_pair if pairs else 1,
        lora_rank=section.lora_rank,
        lora_layers=section.lora_layers,
        recompute=train.gradient_checkpointing,
        dtype=config.execution.dtype,
    )


def _sampled(config: Config) -> Drawn:
    from spin.diffusion.counting import Drawn

    sampling = config.sampling
    back = sampling.loser_source == "roundtrip"
    shown = sampling.store_images or config.safety.generated != "off"
    return Drawn(
        batch=sampling.batch_size, guided=sampling.guidance_scale > 1, steps=sampling.num_inference_steps,
        scheduler=sampling.scheduler, decoded=back or shown, encodings=back * (1 + config.train.flip),
        dtype=config.execution.dtype,
    )  # fmt: skip


def _evaluated(config: Config) -> Drawn:
    from spin.diffusion.counting import Drawn

    evaluation = config.evaluation
    return Drawn(
        batch=evaluation.batch_size, guided=evaluation.guidance_scale > 1, steps=evaluation.num_inference_steps,
        scheduler=evaluation.scheduler, decoded=True, encodings=0, dtype=config.execution.dtype,
    )  # fmt: skip
