"""Plays a run in this process and shows what came of it."""

from __future__ import annotations

from typing import Any

from flows.spin_diffusion import spin_diffusion
from spin.core.config import Config
from spin.core.config_identity import config_to_json
from spin.report.terminal import print_table
from tasks.showing import console


def play(config: Config, server: str) -> None:
    """Run, resume or repeat; print the table, the report's path and what was done."""
    console.print(f"[dim]{server}[/dim]")
    console.print(f"run {config.run.name!r}: {config.iterations} iterations, data {config.data.source}")
    summary: Any = spin_diffusion(config=config_to_json(config))
    print_table(summary.report, console)
    if summary.stopped:
        console.print(f"stopped by the gate after {summary.stopped['after']}; best: {summary.stopped['best']}")
    console.print(f"{summary.totals} in {summary.totals.seconds:.0f} s", highlight=False)
