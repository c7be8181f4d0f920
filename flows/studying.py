"""Commands that study a run that is there: where its numbers come from. Part of the command line."""

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
