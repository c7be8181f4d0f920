"""What a run takes on the disk, and of a device's memory in each kind of work, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flows.forecast_counts import Counts
from flows.forecast_work import micro_batch, opponent_of
from spin.core.config import Config
from spin.core.config_rules import judges_of
from spin.core.config_training import SftConfig, TrainConfig
from spin.core.counted import Learning
from spin.core.outline import Rows, Task, encoded_pictures
from spin.core.safety import LOOKED_AT_ONCE

MICRO_BATCH: Final = "train.micro_batch_size"

_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOAT: Final = 4  # bytes of what is kept on disk and of what trains
_MOMENTS: Final = {"adamw": 8, "adamw_8bit": 2}  # bytes of two for each weight that trains
_STATES: Final = 2  # kept of each training
_PNG_BYTES: Final = 1.84  # a pixel; 482 kB of 512 x 512, measured
_JUDGES_BYTES: Final = 11_400_000_000  # four published ones in float32: 3.9 PickScore, 3.9 HPSv2, 1.8 and 1.7 GB


@dataclass(frozen=True)
class Need:
    """Memory of one device in one kind of work."""

    work: str  # in words: train, 8 pairs a pass
    parts: Mapping[str, int]  # bytes
    knob: str  # the setting that lowers it, with `batch` as its value
    batch: int
    image_bytes: int  # what one of the batch takes

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def fitting(self, memory_bytes: int) -> int:
        """The largest batch that fits; 0 where none does."""
        fixed = self.total - self.batch * self.image_bytes
        return max((memory_bytes - fixed) // max(self.image_bytes, 1), 0)


def disk_parts(config: Config, counts: Counts, rows: Rows, tasks: Sequence[Task]) -> dict[str, int]:
    """Bytes that a run writes, at the most; what runs of a root share is counted as if this one were the first."""
    latent, sizes, train = _FLOAT * counts.sizes.latent, counts.sizes, config.train
    count = {unit: sum(task.count for task in tasks if task.unit == unit) for unit in ("sampled", "evaluated")}
    png = round(_PNG_BYTES * sizes.picture**2)
    kept = 2 if config.sampling.loser_source == "roundtrip" else 1  # mean and log-variance
    kept += config.sampling.num_inference_steps if train.trajectory == "reverse" else 0
    kept *= 1 + train.flip
    models = config.iterations + (config.sft.steps > 0)
    averages = max(config.iterations - 1, 0) if train.opponent == "average" else 0
    frozen = sizes.vae_weights + sizes.text_weights
    return {
        "real latents": 2 * latent * (encoded_pictures(config, rows) or 0),
        "text": _FLOAT * sizes.prompt * (rows.prompts or 0),
        "held-out pictures": png * ((rows.all or 0) - (rows.train or 0)),
        "samples": count["sampled"] * (latent * kept + png * config.sampling.store_images),
        "checkpoints": _FLOAT * ((models + averages) * sizes.weights + (frozen if models else 0)),
        "training states": _STATES * sum(_state_bytes(config, counts)),
        "evaluations": png * count["evaluated"],
    }


def needs(config: Config, counts: Counts, *, processes: int) -> list[Need]:
    """Of every kind of work that the run does."""
    found = [_preparing(config, counts)]
    if counts.sft is not None:
        found.append(_training(config, counts, config.sft, counts.sft, processes))
    if counts.sampled is not None:
        found.append(_sampling(config, counts))
    if counts.train is not None:
        found.append(_training(config, counts, config.train, counts.train, processes))
    return [*found, _evaluating(config, counts)]


def size_text(size_bytes: float) -> str:
    """For people: 512 MiB, 1.5 GiB, 1,024 GiB."""
    if size_bytes < 2**30:
        return f"{size_bytes / 2**20:,.0f} MiB"
    return f"{size_bytes / 2**30:,.1f} GiB" if size_bytes < 100 * 2**30 else f"{size_bytes / 2**30:,.0f} GiB"


def _preparing(config: Config, counts: Counts) -> Need:
    checker, look = _looking(counts, config.safety.real, pictures=1)  # each as it is judged, before any is encoded
    parts = {"text encoders, or VAE and pictures": max(counts.preparing_bytes, look), "safety checker": checker}
    return Need("prepare", parts, "", 0, 0)


def _training(
    config: Config, counts: Counts, section: SftConfig | TrainConfig, learning: Learning, processes: int
) -> Need:
    pairs, batch = isinstance(section, TrainConfig), micro_batch(config, section, processes)
    opponent = pairs and opponent_of(config) == "own"  # a stored one is in memory before the training, and less
    parts = {
        "weights": _FLOAT * (counts.sizes.weights + learning.adapter),
        "gradients": _FLOAT * learning.trained,
        "AdamW's moments": _MOMENTS[config.train.optimizer] * learning.trained,
        "average": _FLOAT * learning.trained * (section.ema_decay is not None),
        "opponent": _FLOAT * counts.sizes.weights * opponent,
        "activations": learning.pass_bytes,
    }
    parts = _divided(parts, config.execution.train_sharding, processes)
    name, thing = ("train", "pairs") if pairs else ("sft", "images")
    return Need(f"{name}, {batch} {thing} a pass", parts, MICRO_BATCH, batch, learning.image_bytes)


def _divided(parts: Mapping[str, int], sharding: str, processes: int) -> dict[str, int]:
    """What one of several processes holds; gathered blocks come and go with the activations."""
    shared = {"optimizer": ("AdamW's moments",), "full": tuple(name for name in parts if name != "activations")}
    return {name: size // processes if name in shared.get(sharding, ()) else size for name, size in parts.items()}


def _sampling(config: Config, counts: Counts) -> Need:
    assert counts.sampled is not None
    sampling, size = config.sampling, _BYTES[config.execution.dtype]
    checker, look = _looking(counts, config.safety.generated, pictures=sampling.batch_size)
    alive = max(counts.sampled.batch_bytes, look)  # a batch is drawn, then looked at
    parts = {
        "weights": size * counts.sizes.weights,
        "VAE": counts.sampled.vae_bytes,
        "safety checker": checker,
        "activations": alive,
    }
    each = alive // sampling.batch_size
    return Need(f"sample, {sampling.batch_size} at once", parts, "sampling.batch_size", sampling.batch_size, each)


def _evaluating(config: Config, counts: Counts) -> Need:
    evaluation, size = config.evaluation, _BYTES[config.execution.dtype]
    checker, look = _looking(counts, config.safety.generated, pictures=LOOKED_AT_ONCE)
    judges = _JUDGES_BYTES * _BYTES[evaluation.scorer_dtype] // _FLOAT
    parts = {
        "weights": size * counts.sizes.weights,
        "VAE": counts.evaluated.vae_bytes,
        "text encoders": _FLOAT * counts.sizes.text_weights,
        "judges": judges * (judges_of(config.model_dump()) == "published"),
        "safety checker": checker,
        "activations": max(counts.evaluated.batch_bytes, look),
    }
    each = counts.evaluated.batch_bytes // evaluation.batch_size
    name = f"evaluate, {evaluation.batch_size} at once"
    return Need(name, parts, "evaluation.batch_size", evaluation.batch_size, each)


def _looking(counts: Counts, mode: str, *, pictures: int) -> tuple[int, int]:
    """Bytes of a safety checker, which stays loaded, and of its pass through so many pictures; 0 where none looks."""
    found = counts.checker
    return (0, 0) if found is None or mode == "off" else (found.weight_bytes, pictures * found.picture_bytes)


def _state_bytes(config: Config, counts: Counts) -> Iterator[int]:
    """One state of each training: what trains, its moments, its average."""
    moments = _MOMENTS[config.train.optimizer]
    if counts.sft is not None:
        yield (_FLOAT * (1 + (config.sft.ema_decay is not None)) + moments) * counts.sft.trained
    if counts.train is not None:
        each = _FLOAT * (1 + (config.train.ema_decay is not None)) + moments
        yield config.iterations * each * counts.train.trained
