"""From the config to its kinds of work, as they are counted and probed."""

from __future__ import annotations

from spin.core.buckets import Buckets
from spin.core.config import Config
from spin.core.config_training import SftConfig, TrainConfig
from spin.core.counted import Drawn, Opponent, Trained


def micro_batch(config: Config, section: SftConfig | TrainConfig, processes: int) -> int:
    """Images or pairs in one pass of one process."""
    return min(config.train.micro_batch_size, max(section.batch_size // processes, 1))


def opponent_of(config: Config) -> Opponent:
    """What a pair is held against."""
    train = config.train
    if train.reference == "stored":
        return "stored"
    return "own" if train.lora_rank is None or (train.opponent != "previous" and config.iterations > 1) else "shared"


def trained_by(config: Config, section: SftConfig | TrainConfig, processes: int) -> Trained:
    """How a section trains, in each of its processes."""
    train, pairs = config.train, isinstance(section, TrainConfig)
    return Trained(
        images=micro_batch(config, section, processes),
        opponent=opponent_of(config) if pairs else None,
        timesteps=train.timesteps_per_pair if pairs else 1,
        lora_rank=section.lora_rank,
        lora_layers=section.lora_layers,
        recompute=train.gradient_checkpointing,
        dtype=config.execution.dtype,
    )


def sampled_by(config: Config) -> Drawn:
    """How the opponent draws."""
    sampling = config.sampling
    back = sampling.loser_source == "roundtrip"
    shown = sampling.store_images or config.safety.generated != "off"
    return Drawn(
        batch=sampling.batch_size, guided=sampling.guidance_scale > 1, steps=sampling.num_inference_steps,
        scheduler=sampling.scheduler, decoded=back or shown, encodings=back * (1 + config.train.flip),
        dtype=config.execution.dtype, approximation=sampling.approximation,
    )  # fmt: skip


def bucket_padding(config: Config, *, side: int) -> float:
    """How many times the images of squares are drawn: in a shard each bucket fills up a last batch of its own.

    Args:
        side: of the model's own square in pixels.

    Returns:
        1.0 without buckets; else half a batch more for each bucket but one, on the average.
    """
    data, sampling = config.data, config.sampling
    if data.aspect_ratio == "square":
        return 1.0
    buckets = len(Buckets(side, data.bucket_step, data.bucket_ratio).sizes)
    return 1 + min((buckets - 1) / 2 * sampling.batch_size / sampling.shard_size, sampling.batch_size - 1)


def evaluated_by(config: Config) -> Drawn:
    """How every model draws what is judged."""
    evaluation = config.evaluation
    return Drawn(
        batch=evaluation.batch_size, guided=evaluation.guidance_scale > 1, steps=evaluation.num_inference_steps,
        scheduler=evaluation.scheduler, decoded=True, encodings=0, dtype=config.execution.dtype,
    )  # fmt: skip
