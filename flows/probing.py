"""`probe`: the largest train.micro_batch_size that fits on this machine, by trying, and the fastest one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from flows.entering import refuse_misfits
from flows.forecast import find_machine, find_planned, train_processes
from flows.forecast_space import size_text
from flows.forecast_work import trained_by
from spin.core.config import Config
from spin.core.errors import ConfigError, MemoryShortage
from spin.diffusion.attention import attending
from spin.diffusion.optimizers import require_optimizer
from tasks.showing import console

if TYPE_CHECKING:
    from spin.core.micro_batch import Found, Tried

_WHAT: Final = {True: "pairs", False: "images"}


def print_probe(config: Config, *, seconds: float, limit_bytes: int | None = None) -> Found:
    """Try sizes of a pass in this process, tell each, and end with the settings to take.

    Args:
        seconds: that all tries may take.
        limit_bytes: what this process may have; None for 90 % of what is free.
    """
    from spin.diffusion.fitting import largest_micro_batch  # torch: only this command pays for it here

    base, machine = find_planned(config.model.base), find_machine(config, None, None)
    if base.architecture is not None:
        raise ConfigError(
            "is not on this machine: nothing can be tried", where=f"model.base: {base.name}",
            fix="download it, or count instead: spin-diffusion plan CONFIG --gpu NAME",
        )  # fmt: skip
    refuse_misfits(config, base.folder)
    require_optimizer(config.train.optimizer)
    section = config.train if config.iterations else config.sft
    processes = train_processes(config, machine)
    trained, share = trained_by(config, section, processes), max(section.batch_size // processes, 1)
    what = _WHAT[trained.pairs]
    for line in _untried(config, processes):
        console.print(line, highlight=False, soft_wrap=True)  # one line, also in a pipe
    console.print(f"{what:>8} {'memory':>10} {what + '/s':>10}", highlight=False)
    with attending(config.execution.attention, device=machine.kind, dtype=config.execution.dtype):
        found = largest_micro_batch(
            base.folder, trained, most=share, optimizer=config.train.optimizer, averaged=section.ema_decay is not None,
            device=machine.kind, threads=config.execution.threads, seconds=seconds, limit_bytes=limit_bytes, told=_tell,
        )  # fmt: skip
    if not found.largest:
        raise MemoryShortage(
            f"not one of its {what} fits on {machine.name}",
            fix="set train.gradient_checkpointing=true, or train.lora_rank=16, or take a larger device",
        )
    console.print(_verdict(found, share), highlight=False, soft_wrap=True)
    return found


def _untried(config: Config, processes: int) -> Iterator[str]:
    """What the config does besides, with an effect on what fits."""
    if processes > 1 and config.execution.train_sharding != "none":
        yield f"tried undivided; execution.train_sharding={config.execution.train_sharding} leaves room for more"
    if config.train.compile:
        yield "tried without train.compile, which changes both columns"


def _tell(tried: Tried) -> None:
    size = f"{tried.size:>8}"
    if tried.peak_bytes is None:
        console.print(f"{size} {'too much':>10}", highlight=False)
    else:
        console.print(f"{size} {size_text(tried.peak_bytes):>10} {tried.rate:>10.3g}", highlight=False)


def _verdict(found: Found, share: int) -> str:
    """The line that people look for; a search that was cut short says so."""
    end = "" if found.complete else ", as far as was tried (--seconds N for longer)"
    whole = f", all that a process reads in a step{end}" if found.largest == share else end
    fastest = f"fastest: {found.fastest} (set train.micro_batch_size={found.fastest})"
    return f"largest that fits: {found.largest}{whole}; {fastest}"
