"""Commands that study a run: where its numbers come from, whether they come again, what people think of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from flows.arguments import Root, RunName

app: Final = typer.Typer()


@app.command()
def lineage(
    name: RunName,
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="A plot or table of the report, MODEL:METRIC, a stage, or a file."),
    ] = None,
    root: Root = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Every link with all that is known of it.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every byte.")] = False,
) -> None:
    """Print the chain of digests from a figure back to data, config and code; exit code 1 if it is broken."""
    from flows.lineage import print_lineage

    if not print_lineage(root, name, target, as_json=as_json, hash_bytes=verify):
        raise typer.Exit(1)


@app.command()
def reproduce(
    name: RunName,
    root: Root = Path("runs"),
    into: Annotated[
        str | None, typer.Option(metavar="NAME", help="Folder of the rerun, beside the run; default RUN-reproduced.")
    ] = None,
    sample: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="No rerun: N images of each iteration and evaluation, first steps."),
    ] = 0,
    stage: Annotated[str | None, typer.Option(help="Only this stage: sft, or iteration-02.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference taken as none; 0: bit for bit.")] = 0,
    any_code: Annotated[bool, typer.Option("--any-code", help="Also with other code than made the run.")] = False,
) -> None:
    """Rerun a finished run from its record and say which stage first differs; exit code 1 if one does."""
    from flows.reproducing import reproduce as play_again

    if not play_again(root, name, into=into, sample=sample, stage=stage, tolerance=tolerance, any_code=any_code):
        raise typer.Exit(1)


@app.command()
def vote(
    name: RunName,
    root: Root = Path("runs"),
    models: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="Two stages; default the game's start and the last.")
    ] = None,
    prompts: Annotated[int | None, typer.Option(min=1, help="Prompts to vote on; default all.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    voter: Annotated[str, typer.Option(help="Whose votes these are.")] = "me",
    results: Annotated[bool, typer.Option("--results", help="Print what people voted, which judges agree.")] = False,
) -> None:
    """Compare pictures of two models blindly on a page of this machine, or print what came of it."""
    from flows.voting import print_results
    from flows.voting import vote as ask

    if results:
        print_results(root, name)
    else:
        ask(root, name, models=models, prompts=prompts, port=port, voter=voter)
