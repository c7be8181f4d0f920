"""Commands around runs: what they will take, comparisons, where numbers come from, votes, adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from flows.arguments import OtherRoot, Overrides, Root, RunName, Source
from flows.publishing import app as publishing

app: Final = typer.Typer()
app.add_typer(publishing)


@app.command()
def plan(
    source: Source,
    overrides: Overrides = None,
    root: OtherRoot = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="Plan for this card: h200, a100, rtx4090...")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, max=65536, help="How many of them.")] = None,
) -> None:
    """Say what a run, or a comparison, will do before anything is spent: tasks, time, disk, memory; works offline."""
    from spin.core.config import load_config
    from spin.core.recipe_file import is_recipe

    if is_recipe(source):
        plan_comparison(source, overrides or [], root or Path("runs"), gpu=gpu, gpus=gpus)
        return
    from flows.forecast import forecast
    from flows.forecast_text import print_forecast

    there = [f"run.root={root}"] if root else []
    print_forecast(forecast(load_config(source, overrides=[*(overrides or []), *there]), gpu=gpu, gpus=gpus))


@app.command()
def probe(
    source: Source,
    overrides: Overrides = None,
    seconds: Annotated[float, typer.Option(min=1, max=86400, help="What all tries may take together.")] = 600.0,
    memory_gib: Annotated[
        float | None, typer.Option("--memory-gib", min=0.1, help="What it may take; 90 % of what is free by itself.")
    ] = None,
) -> None:
    """Find the largest train.micro_batch_size that fits on this machine, and the fastest, by trying."""
    from flows.probing import print_probe
    from spin.core.config import load_config

    limit = None if memory_gib is None else round(memory_gib * 2**30)
    print_probe(load_config(source, overrides=overrides or []), seconds=seconds, limit_bytes=limit)


@app.command()
def quality(
    source: Source,
    overrides: Overrides = None,
    root: OtherRoot = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Of exact drawing; default the config's, at least 20.")
    ] = None,
    reference: Annotated[
        int, typer.Option(min=2, max=1000, help="Steps of the reference that both are measured by.")
    ] = 200,
) -> None:
    """Say what the approximations of a config's sampling cost: distance to a reference, paired scores of judges."""
    from flows.approximating import print_answer, question_of
    from flows.entering import check_sources, use_prefect
    from spin.core.config import load_config
    from spin.core.config_identity import config_to_json

    there = [f"run.root={root}"] if root else []
    config = load_config(source, overrides=[*(overrides or []), *there])
    check_sources(config)
    question_of(config, steps=steps, reference=reference)
    use_prefect(Path(config.run.root))
    from flows.quality import quality as flow

    found: Any = flow(config_to_json(config), steps, reference)
    print_answer(found)


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
def compare(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A packaged recipe's name, or a YAML file.")],
    root: Root = Path("runs"),
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Play only this one of the recipe's seeds; repeatable.")
    ] = None,
    overrides: Overrides = None,
    keep: Annotated[
        Path | None, typer.Option(help="Copy scores and facts into this folder, a folder for each recipe.")
    ] = None,
) -> None:
    """Play the arms of a recipe with equal budgets, and tell which claims hold; a second call goes on."""
    from flows.entering import use_prefect
    from spin.core.recipe_file import load_recipe

    load_recipe(recipe, overrides or []).chosen_seeds(seeds)
    use_prefect(root)
    from flows.compare import compare as flow

    found: Any = flow(recipe, seeds, overrides, str(root))
    if keep is not None:
        from spin.report.results.page import keep_facts

        keep_facts(found.folder, keep)
    typer.echo(f"{found.played} runs; {found.page}")


@app.command()
def results(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of each comparison's facts.")],
) -> None:
    """Write the page of all comparisons, results.md beside the folder, from their committed scores alone."""
    from spin.report.results.page import write_whole_page

    typer.echo(f"wrote {write_whole_page(folder)}")


@app.command("export-lora")
def export_lora(
    name: RunName,
    into: Annotated[Path, typer.Option(metavar="FILE|DIR", help="A .safetensors file to write, or a folder.")],
    form: Annotated[
        Literal["diffusers", "kohya"],
        typer.Option("--format", help="Names as diffusers and PEFT have them, or as kohya's sd-scripts."),
    ] = "diffusers",
    stage: Annotated[str | None, typer.Option(help="Whose model: sft, iteration-02; default the newest.")] = None,
    start: Annotated[
        str, typer.Option("--relative-to", metavar="STAGE", help="The model that the adapter is laid over.")
    ] = "base",
    root: Root = Path("runs"),
) -> None:
    """Write what LoRA stages learned as one adapter: with the model that it is laid over it is the merged model."""
    from flows.exporting import export_lora as export

    typer.echo(export(root, name, stage=stage, start=start, form=form, into=into))


def plan_comparison(recipe: str, overrides: list[str], root: Path, *, gpu: str | None, gpus: int | None) -> None:
    """`plan` of a recipe: what every arm will do and cost, before anything is spent."""
    from flows.entering import use_prefect
    from spin.core.recipe_file import load_recipe

    source = load_recipe(recipe, overrides)
    use_prefect(root)
    from flows.compare_forecast import forecast_comparison, print_comparison

    print_comparison(forecast_comparison(source, root=str(root), gpu=gpu, gpus=gpus))


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
