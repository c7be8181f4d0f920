"""`publish`: a model of a run as a folder with its card, or the run's tables as a data set; pushed only where asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from flows.arguments import Overrides, Root, RunName
from spin.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spin.report.publishing.hub import Kind
    from spin.report.publishing.model import Subject

app: Final = typer.Typer()
_NEWEST: Final = "newest"


@app.command()
def publish(
    name: RunName,
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for a model: diffusers files, card, recipe, pictures.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the run's tables, as `datasets` loads them.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="newest, or a stage such as iteration-02.")] = _NEWEST,
    overrides: Overrides = None,
    pictures: Annotated[bool, typer.Option(help="A grid of scored prompts by models beside the card.")] = True,
    repository: Annotated[
        str | None,
        typer.Option("--push-to-hub", metavar="OWNER/NAME", help="Upload what it wrote; else nothing leaves."),
    ] = None,
    public: Annotated[bool, typer.Option("--public/--private", help="Of a repository that this call makes.")] = False,
    root: Root = Path("runs"),
) -> None:
    """Make a folder of a model and its card, or of a run's tables; --set publish.licence=... states a licence."""
    if (into is None) == (dataset is None):
        raise ConfigError("name --into DIR for a model, or --dataset DIR for the tables", where="publish")
    if dataset is not None and (checkpoint != _NEWEST or not pictures):
        raise ConfigError("holds the whole run", where="--dataset", fix="leave --checkpoint and --no-pictures out")
    if public and repository is None:
        raise ConfigError("nothing is pushed", where="--public", fix="add --push-to-hub OWNER/NAME, or leave it out")
    from spin.report.publishing.model import open_subject

    subject = open_subject(root.absolute(), name, overrides or [])
    if into is not None:
        _model(subject, into, checkpoint, pictures, repository, public)
    elif dataset is not None:
        _tables(subject, dataset, repository, public)


def _model(subject: Subject, into: Path, checkpoint: str, pictures: bool, repository: str | None, public: bool) -> None:
    from spin.report.publishing.hub import refuse_push
    from spin.report.publishing.model import publish_model

    unknown = subject.licences.unknown
    if repository is not None:
        refuse_push(repository, unknown)
    made = publish_model(subject, checkpoint, into, pictures=pictures, name=repository or f"./{into.name}")
    typer.echo(f"wrote {into}: {made.summary}")
    for licence in unknown:
        typer.echo(f"{licence.of}: {licence.told} ({licence.source})")
    if repository is not None:
        message = f"{subject.run.name}, {made.label}"
        _push(into, repository, made.written, kind="model", public=public, message=message)


def _tables(subject: Subject, into: Path, repository: str | None, public: bool) -> None:
    from spin.report.publishing.dataset import publish_dataset
    from spin.report.publishing.hub import refuse_push

    data = subject.licences.data
    if repository is not None:
        refuse_push(repository, () if data.id else (data,))
    made = publish_dataset(subject, into)
    typer.echo(f"wrote {into}: {made.summary}")
    if data.id is None:
        typer.echo(f"{data.of}: {data.told} ({data.source})")
    if repository is not None:
        message = f"{subject.run.name}: its tables"
        _push(into, repository, made.written, kind="dataset", public=public, message=message)


def _push(into: Path, repository: str, written: Sequence[str], *, kind: Kind, public: bool, message: str) -> None:
    """Send what was written; what a person put beside it is not sent, and said so."""
    from spin.report.publishing.folder import others
    from spin.report.publishing.hub import push

    address = push(into, repository, files=written, kind=kind, private=not public, message=message)
    typer.echo(f"pushed to {address}")
    if left := ", ".join(path.name for path in others(into)):
        typer.echo(f"not pushed, as publish did not write it: {left}")
