"""`vote`: people compare pictures of two models without knowing which drew which; or what came of it."""

from __future__ import annotations

import sys
from pathlib import Path

from spin.core.layout import RunsRoot
from spin.core.record import read_record
from tasks.showing import console


def vote(root: Path, run: str, *, models: tuple[str, str] | None, prompts: int | None, port: int, voter: str) -> None:
    """Serve the page until Ctrl-C."""
    from spin.vote.booth import open_booth
    from spin.vote.page import serve

    read_record(RunsRoot(root.absolute()).run(run))
    booth = open_booth(root.absolute(), run, models=models, prompts=prompts, voter=voter)
    serve(booth, port, lambda line: console.print(line, highlight=False, soft_wrap=True))
    console.print(f"{booth.done} of {len(booth.pairs)} pairs have a vote of {voter}", highlight=False)


def print_results(root: Path, run: str) -> None:
    """Win rates and agreement; what could not be read is told on standard error."""
    from spin.report.reading import read_run
    from spin.report.terminal import print_votes
    from spin.report.votes import tallies, unread_votes

    found = read_run(runs_root=root.absolute(), run=run)
    rows = tallies(found)
    if rows:
        print_votes(rows, console)
    else:
        console.print(f"nobody has voted on run {run!r} yet; spin-diffusion vote {run} asks", highlight=False)
    for notice in unread_votes(found):
        sys.stderr.write(f"{notice}\n")
