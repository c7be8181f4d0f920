"""A forecast as people read it: tasks, time, disk, memory, and what to mind."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from flows.forecast import Forecast
from flows.forecast_space import size_text
from tasks.showing import console


def print_forecast(found: Forecast) -> None:
    """Print the tasks of a run in their order, and what they take."""
    parts = [_words(_head(found)), _tasks(found), _words([("disk", _disk(found))]), _memory(found)]
    if found.warnings:
        parts.append(_words([("mind", warning) for warning in found.warnings]))
    for number, part in enumerate(parts):
        console.print(*([] if number == 0 else [""]), part, sep="\n", highlight=False)


def time_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"


def _head(found: Forecast) -> list[tuple[str, str]]:
    config, machine, sizes = found.config, found.machine, found.counts.sizes
    learning = found.counts.train or found.counts.sft
    base = f"{found.base.name}: {_millions(sizes.weights)} weights"
    base += f", {_millions(learning.trained)} train" if learning is not None else ""
    if found.base.architecture is not None:
        base += f"; not on this machine, a run downloads {found.download_bytes / 1e9:.1f} GB"
    many = f"{machine.count} x " if machine.count > 1 else ""
    rows = "unknown" if found.rows.train is None else f"{found.rows.train:,} to train on"
    return [
        ("run", f"{config.run.name}, on {many}{machine.name}, {config.execution.dtype}"),
        ("base", base),
        ("rows", f"{rows} ({found.rows.told})"),
        *_drawing(found),
        ("times", found.told),
    ]


def _drawing(found: Forecast) -> list[tuple[str, str]]:
    """How the opponent draws; what that leaves out, and the share of its operations that this saves."""
    sampling, sampled = found.config.sampling, found.counts.sampled
    if sampled is None:
        return []
    guidance = f"guidance {sampling.guidance_scale:g}" if sampling.guidance_scale > 1 else "no guidance"
    rows = [("draws", f"{sampling.num_inference_steps} steps of {sampling.scheduler}, {guidance}")]
    if told := str(sampling.approximation):
        saved = sampled.saved.total / (sampled.saved + sampled.denoised).total
        rows.append(("approximated", f"{told}; saves {saved:.0%} of the operations of the opponent's network"))
    return rows


def _tasks(found: Forecast) -> Table:
    unit = "GPU" if found.machine.kind == "cuda" else "CPU"
    table = _table("stage", "task", "after", "work", time="time", hours=f"{unit} hours")
    stage = ""
    for line in found.lines:
        task = line.task
        cost = (time_text(line.seconds), _hours(line.device_seconds)) if task.count else ("", "")
        table.add_row(task.stage if task.stage != stage else "", task.kind, task.after, Text(task.work), *cost)
        stage = task.stage
    seconds, device = (sum(getattr(line, name) for line in found.lines) for name in ("seconds", "device_seconds"))
    table.add_row("total", "", "", "", time_text(seconds), _hours(device))
    return table


def _disk(found: Forecast) -> str:
    parts = {name: size for name, size in found.disk.items() if size}
    words = [f"{name} {size_text(size)}" for name, size in parts.items()]
    if found.rows.all is None:
        words.append("the data's pictures and captions come on top")
    elif found.rows.prompts is None:
        words.append(
            f"text comes on top, {size_text(4000 * found.counts.sizes.prompt)} for a thousand different captions"
        )
    text = f"{size_text(sum(parts.values()))} of {size_text(found.free_bytes)} free: {', '.join(words)}"
    return text if found.copy is None else f"{text}; {found.copy.told}"


def _memory(found: Forecast) -> Table:
    memory = found.machine.memory_bytes
    table = _table(f"{found.machine.name}, {size_text(memory)}", "parts", needed="needed", free="free")
    for need in found.memory:
        parts = ", ".join(f"{name} {size_text(size)}" for name, size in need.parts.items() if size)
        free = memory - need.total
        room = f"{size_text(free)}, {free / memory:.0%}" if free >= 0 else f"lacks {size_text(-free)}"
        table.add_row(need.work, parts, size_text(need.total), room)
    return table


def _words(lines: Sequence[tuple[str, str]]) -> Table:
    """What is said of something, under one another; no part of it is read as markup."""
    table = Table.grid(padding=(0, 2))
    for name, words in lines:
        table.add_row(name, Text(words))
    return table


def _table(*texts: str, **numbers: str) -> Table:
    """Columns of words, then of numbers."""
    table = Table(box=None, pad_edge=False)
    for text in texts:
        table.add_column(text, overflow="fold")
    for number in numbers.values():
        table.add_column(number, justify="right", no_wrap=True)
    return table


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _millions(weights: int) -> str:
    return f"{weights / 1e6:,.0f} million"
