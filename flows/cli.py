"""The command line: `spin-diffusion ...`. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from flows.arguments import Overrides, Root, RunName, Source
from flows.studying import app as studying
from spin.core.config import Config, load_config
from spin.core.config_explain import explain as explain_key
from spin.core.errors import ConfigError, SpinError
from spin.core.layout import RunsRoot

app: Final = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
config_app: Final = typer.Typer(no_args_is_help=True, help="About the settings.")
app.add_typer(config_app, name="config")
app.add_typer(studying)

Gpus = Annotated[str, typer.Option(help="all, none, or a list such as 0,1.")]
Slots = Annotated[int, typer.Option(min=1, help="Workers in spin-gpu on a machine without GPUs.")]
OptionalSource = Annotated[
    str, typer.Argument(metavar="[CONFIG]", help="A YAML file or preset: run.root, nightly.* and notification.* count.")
]
_PRESET: Final = "sd15-paper"
_POOLS: Final = ("spin-control", "spin-gpu", "spin-train")


def main() -> None:
    """Entry point: a SpinError is one line on stderr and exit code 2; nothing else is swallowed."""
    try:
        app()
    except SpinError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


@app.callback()
def about() -> None:
    """Fine-tune text-to-image diffusion models by self-play."""


@app.command()
def demo(overrides: Overrides = None) -> None:
    """Play three rounds of self-play in the embedded miniature world; about two minutes on two cores."""
    _run(load_config("miniature", overrides=overrides or []))


@app.command()
def run(source: Source, overrides: Overrides = None) -> None:
    """Start a run, or go on with it: finished work is checked and skipped."""
    _run(load_config(source, overrides=overrides or []))


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Your folder of images and captions.")],
    config: Annotated[Path, typer.Option(help="The file to write.")] = Path("spin.yaml"),
) -> None:
    """Write a commented config for your own folder of images and captions."""
    from flows.newcomer import write_config

    written = write_config(directory, config)
    typer.echo(f"wrote {written}; next: spin-diffusion check {written}, then spin-diffusion run {written}")


@app.command()
def check(source: Source, overrides: Overrides = None) -> None:
    """Check a config; every problem is named at once."""
    from flows.entering import check_attention, check_sources, check_trackers, check_training

    config = load_config(source, overrides=overrides or [])
    check_sources(config)
    check_training(config)
    check_attention(config)
    check_trackers(config)
    typer.echo(f"{source}: fine; run {config.run.name!r}, {config.iterations} iterations, data {config.data.source}")


@app.command("sample-shard")
def sample_shard(
    name: RunName,
    iteration: Annotated[int, typer.Argument(metavar="ITERATION", min=1)],
    shard: Annotated[int, typer.Argument(metavar="SHARD", min=0, help="Counted from 0, as its file.")],
    root: Root = Path("runs"),
    verify: Annotated[int, typer.Option("--verify", metavar="N", min=0, help="Draw N images again and compare.")] = 0,
) -> None:
    """Make one shard of one iteration again, if it is missing or damaged."""
    from flows.entering import enter

    enter(root, name)
    from flows.sample_shard import sample_shard as flow

    result: Any = flow(name, iteration, shard, verify, str(root))
    typer.echo(f"{result.images} images sampled")
    if result.checked:
        typer.echo(f"{result.differing} of {result.checked} images differ; largest {result.largest_difference:.3g}")
    if result.differing:
        raise typer.Exit(1)


@app.command()
def evaluate(
    subject: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="A run, a diffusers folder or a hub id.")],
    root: Root = Path("runs"),
    overrides: Overrides = None,
    checkpoint: Annotated[str, typer.Option(help="Of a run: all, newest, or a stage such as iteration-02.")] = "all",
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="pickapic_test, partiprompts, hpsv2, paper_figures, a file of prompts; repeatable."),
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Another checkpoint; the first is what all are compared with.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the comparison's folder in the runs root.")] = None,
    preset: Annotated[str, typer.Option(help="Whose evaluation settings a checkpoint is scored with.")] = _PRESET,
) -> None:
    """Score the models of a run, or any checkpoints side by side."""
    is_run = (root.absolute() / subject / "run.json").is_file() or not (against or _names_checkpoint(subject))
    if is_run and (against or name or preset != _PRESET):
        raise ConfigError("--against, --name and --preset are for checkpoints", where=subject, fix="name a checkpoint")
    if not is_run and checkpoint != "all":
        raise ConfigError("--checkpoint is for the models of a run", where=subject, fix="leave it out")
    if is_run:
        _evaluate_run(root, subject, checkpoint, benchmark, overrides or [])
    else:
        _evaluate_checkpoint(root, subject, against, benchmark, name, preset, overrides or [])


@app.command()
def report(name: RunName, root: Root = Path("runs")) -> None:
    """Write the report of a run anew and print its table."""
    from spin.report.request import ReportRequest
    from spin.report.room import run as write_report
    from spin.report.terminal import print_table
    from tasks.showing import console

    result = write_report(ReportRequest(root.absolute(), name))
    print_table(result, console)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT over the tables of docs/scores.md.")],
    root: Root = Path("runs"),
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print the rows.")] = "table",
    with_bytes: Annotated[bool, typer.Option("--with-bytes", help="Give `images` its column of PNG bytes.")] = False,
) -> None:
    """Ask in SQL about every score, picture and night of a runs root; reads only."""
    from flows.query import query as ask

    ask(root, sql, form=form, with_bytes=with_bytes)


@app.command()
def status(
    name: RunName,
    root: Root = Path("runs"),
    verify: Annotated[bool, typer.Option("--verify", help="Hash every byte.")] = False,
) -> None:
    """Say which artifacts of a run stand; exit code 1 if one is damaged or missing."""
    from flows.status import print_status

    if not print_status(root, name, verify=verify):
        raise typer.Exit(1)


@app.command()
def serve(
    source: OptionalSource = "miniature",
    overrides: Overrides = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 4200,
    gpus: Gpus = "all",
    slots: Slots = 1,
) -> None:
    """Start a Prefect server on this machine, register everything, start the workers; Ctrl-C stops all of it."""
    from flows.serving import serve as keep_serving
    from flows.serving import worker_programs

    config = load_config(source, overrides=overrides or [])
    keep_serving(config, port, worker_programs(_POOLS, gpus, slots))


@app.command()
def deploy(source: OptionalSource = "miniature", overrides: Overrides = None) -> None:
    """Register pools, deployments, schedules and automations on the server of PREFECT_API_URL."""
    from flows.environment import prepare_environment, require_server

    config = load_config(source, overrides=overrides or [])
    address = require_server()
    prepare_environment(Path(config.run.root))
    from flows.deployments import register

    for name in register(config):
        typer.echo(name)
    typer.echo(f"registered at {address}; runs root {Path(config.run.root).absolute()}")


@app.command()
def worker(
    pools: Annotated[
        list[str] | None, typer.Option("--pool", help="Pools to serve; default spin-gpu, spin-train.")
    ] = None,
    gpus: Gpus = "all",
    slots: Slots = 1,
    root: Root = Path("runs"),
) -> None:
    """Start workers for the server of PREFECT_API_URL: one for each GPU, and one that trains."""
    from flows.environment import prepare_environment, require_server
    from flows.serving import work, worker_programs

    unknown = [pool for pool in pools or () if pool not in _POOLS]
    if unknown:
        raise ConfigError(f"no pool {unknown[0]!r}", where="--pool", fix=f"name {', '.join(_POOLS)}")
    require_server()
    prepare_environment(root)
    work(RunsRoot(root.absolute()), worker_programs(pools or _POOLS[1:], gpus, slots))


@app.command()
def doctor(
    root: Root = Path("runs"),
    scorers: Annotated[bool, typer.Option("--scorers", help="Fetch, verify and try the published judges.")] = False,
    scorers_folder: Annotated[
        Path | None, typer.Option(help="Folder with the judges' files; the hub where none is named.")
    ] = None,
    hps_version: Annotated[str, typer.Option(help="v2.0 or v2.1.")] = "v2.0",
) -> None:
    """Prove that this machine can run the pipeline: versions, device, the runs root; or that the judges are whole."""
    from flows.doctor import examine, examine_scorers, print_findings

    if hps_version not in ("v2.0", "v2.1"):
        raise ConfigError(f"no version {hps_version[:20]!r}", where="--hps-version", fix="take v2.0 or v2.1")
    folder = None if scorers_folder is None else scorers_folder.absolute()
    if not print_findings(examine_scorers(folder, hps_version) if scorers else examine(root)):
        raise typer.Exit(1)


@config_app.command("explain")
def explain(key: Annotated[str, typer.Argument(metavar="KEY")]) -> None:
    """Say what a setting means, its default and where that comes from."""
    found = explain_key(key)
    for label in ("key", "meaning", "type", "default", "limits", "source"):
        value = getattr(found, label)
        if value not in (None, ""):
            typer.echo(f"{label:<8} {value}")


@config_app.command("show")
def show(source: Source, overrides: Overrides = None) -> None:
    """Print the resolved config as JSON."""
    typer.echo(load_config(source, overrides=overrides or []).model_dump_json(indent=2))


def _names_checkpoint(subject: str) -> bool:
    """A folder or a hub id; a run's name has no slash."""
    return "/" in subject or subject == "miniature" or (Path(subject).expanduser() / "model_index.json").is_file()


def _evaluate_run(root: Path, name: str, checkpoint: str, benchmarks: list[str] | None, overrides: list[str]) -> None:
    from flows.entering import enter

    enter(root, name)
    from flows.evaluate import evaluate as flow
    from flows.evaluate import print_scores

    scores: Any = flow(name, checkpoint, benchmarks, overrides, False, str(root))
    print_scores(scores)


def _evaluate_checkpoint(
    root: Path, subject: str, against: list[str] | None, benchmarks: list[str] | None, name: str | None, preset: str,
    overrides: list[str],
) -> None:  # fmt: skip
    from flows.entering import evaluation_sections, use_prefect

    evaluation_sections(preset, benchmarks or [], overrides)
    use_prefect(root)
    from flows.evaluate_checkpoint import evaluate_checkpoint
    from spin.report.terminal import print_table
    from tasks.showing import console

    found: Any = evaluate_checkpoint(subject, against, benchmarks, name, preset, overrides, str(root))
    print_table(found.report, console)
    typer.echo(f"{found.images_scored} images scored; comparison {found.name}")


def _run(config: Config) -> None:
    from flows.entering import check_run
    from flows.environment import prepare_environment, refuse_other_server

    check_run(config)
    server = prepare_environment(Path(config.run.root))
    refuse_other_server()
    from flows.playing import play

    try:
        play(config, server)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
