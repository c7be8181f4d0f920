"""`plan`: what a run will do and cost, before anything is spent."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.requests import Requests
from spin.core.budgets import sampled_images
from spin.core.config import Config
from spin.core.plan import shard_count
from spin.core.planning import count_train_rows
from spin.evaluate.benchmarks import BENCHMARKS
from tasks.launching import find_device
from tasks.showing import console

if TYPE_CHECKING:
    from spin.diffusion.probe import Rates

_MINIATURE_ROWS = 384
_PROMPTS = {name: known.prompts for name, known in BENCHMARKS.items()}


@dataclass(frozen=True)
class Line:
    stage: str
    work: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Forecast:
    lines: list[Line]
    rows: int | None  # train rows; None until the data is prepared
    disk_bytes: int
    free_bytes: int
    memory_bytes: int
    device: str


def forecast(config: Config) -> Forecast:
    """Counts from the config and the data, seconds from one measured batch of each kind."""
    from spin.prepare.base import resolve_base  # torch: only this command and runs pay for it

    device = find_device(config.execution.device)
    rates = measured(config, resolve_base(config.model.base), device)
    rows = train_rows(Requests(config, device))
    lines = _lines(config, rows, rates)
    disk = _disk_bytes(config, lines, rates)
    root = Path(config.run.root).absolute()
    free = shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists())).free
    return Forecast(lines, rows, disk, free, _memory_bytes(config, rates), device)


def measured(config: Config, base: Path, device: str, **drawing: Any) -> Rates:
    """One batch of each kind of work, as the config has it.

    Args:
        drawing: how pictures are drawn where the config is not asked, as `spin.diffusion.probe.measure` calls it.
    """
    from spin.diffusion.probe import measure  # torch: only this command and runs pay for it

    asked = {
        "sampling_guidance": config.sampling.guidance_scale,
        "sampling_steps": config.sampling.num_inference_steps,
        "sampling_scheduler": config.sampling.scheduler,
        "evaluation_guidance": config.evaluation.guidance_scale,
        "evaluation_steps": config.evaluation.num_inference_steps,
        "evaluation_scheduler": config.evaluation.scheduler,
    }
    return measure(
        base,
        **{**asked, **drawing},
        sampling_batch=config.sampling.batch_size,
        sft_batch=config.sft.batch_size,
        pair_batch=config.train.batch_size,
        micro_batch=min(config.train.micro_batch_size, config.train.batch_size),
        device=device,
        threads=config.execution.threads,
    )


def print_forecast(found: Forecast) -> None:
    """Print counts, minutes, disk and memory."""
    table = Table("stage", "work", "count", "time")
    for line in found.lines:
        table.add_row(line.stage, line.work, f"{line.count:,}", time_text(line.seconds))
    table.add_row("[bold]total", "", "", f"[bold]{time_text(sum(line.seconds for line in found.lines))}")
    console.print(table)
    rows = "not prepared yet, so sampling is counted at one image per reading" if found.rows is None else found.rows
    console.print(f"train rows: {rows}; device: {found.device}, probed with one batch of each kind", highlight=False)
    console.print(
        f"disk: {found.disk_bytes / 2**20:,.0f} MiB of {found.free_bytes / 2**20:,.0f} MiB free; "
        f"memory for weights in training: {found.memory_bytes / 2**20:,.0f} MiB, activations come on top",
        highlight=False,
    )


def time_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _lines(config: Config, rows: int | None, rates: Rates) -> list[Line]:
    pictures = evaluated_pictures(config)
    lines = [Line("base", "evaluate", pictures, pictures * rates.evaluated_image)]
    if config.sft.steps:
        images = config.sft.steps * config.sft.batch_size
        lines.append(Line("sft", "train", images, images * rates.sft_image))
        lines.append(Line("sft", "evaluate", pictures, pictures * rates.evaluated_image))
    for number in range(1, config.iterations + 1):
        pairs = config.train.at(number).steps * config.train.batch_size
        images = sampled_images(config, pairs, rows)
        name = f"iteration {number}, {shard_count(images, config.sampling.shard_size)} shards"
        if config.train.losers == "generated":
            lines.append(Line(name, "sample", images, images * rates.sampled_image))
        else:
            name = f"iteration {number}"
        lines.append(Line(name, "train", pairs, pairs * config.train.timesteps_per_pair * rates.pair))
        lines.append(Line(name, "evaluate", pictures, pictures * rates.evaluated_image))
    return lines


def _disk_bytes(config: Config, lines: list[Line], rates: Rates) -> int:
    sampled = sum(line.count for line in lines if line.work == "sample")
    states_kept = config.sampling.num_inference_steps if config.train.trajectory == "reverse" else 0
    averages = max(config.iterations - 1, 0) if config.train.opponent == "average" else 0
    checkpoints = config.iterations + (config.sft.steps > 0)
    trained = config.iterations * (config.train.lora_rank is None)  # an adapter's states are small
    trained += config.sft.steps > 0 and config.sft.lora_rank is None
    states = 2 * 3 * trained  # the last two kept; weights and two moments
    return sampled * rates.latent_bytes * (1 + states_kept) + (checkpoints + averages + states) * rates.checkpoint_bytes


def _memory_bytes(config: Config, rates: Rates) -> int:
    """Of the largest stage: weights, gradients and two moments of all weights, and an opponent of its own."""
    sft, train = config.sft, config.train
    apart = train.lora_rank is None or (train.opponent != "previous" and config.iterations > 1)
    played = (1 if train.lora_rank is not None else 4) + apart
    supervised = 1 if sft.lora_rank is not None else 4
    return max(played * (config.iterations > 0), supervised * (sft.steps > 0)) * rates.checkpoint_bytes


def evaluated_pictures(config: Config) -> int:
    """Pictures of one model over all benchmarks; a file of prompts counts as 256 until it is read."""
    evaluation = config.evaluation
    total = 0
    for benchmark in evaluation.benchmarks:
        known = _PROMPTS.get(benchmark.partition("=")[0], 256)
        prompts = min(known, evaluation.prompts or known)
        if evaluation.protocol == "best_of_n":
            total += prompts * evaluation.images_per_prompt
        else:
            total += prompts + min(prompts, evaluation.diversity_prompts) * (evaluation.diversity_images - 1)
    return total


def train_rows(requests: Requests) -> int | None:
    if requests.folder.prompts.exists():
        return count_train_rows(requests.folder.prompts)
    data = requests.config.data
    return min(data.rows or _MINIATURE_ROWS, _MINIATURE_ROWS) if data.source == "miniature" else None
