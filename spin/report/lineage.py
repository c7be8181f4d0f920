"""From what a person names, a figure, a number, a model or a file, back to data, config and code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from spin.core.errors import ConfigError
from spin.core.layout import EvaluationFolder, RunFolder
from spin.core.record import read_run_record, relative
from spin.core.store import hash_file
from spin.report.boards import board, further_boards
from spin.report.chain import Chain
from spin.report.costs import cost_table
from spin.report.link import Link
from spin.report.reading import Run, read_run
from spin.report.standing import Standing
from spin.report.tables import csv_text

_RECORD_TABLES: Final = ("time", "costs")  # made from run.json alone
_VOTE_TABLES: Final = ("votes", "agreement")
_GAME, _SUPERVISED, _HELD_OUT = "self-", "supe-", "held-out-"  # how plots of training are called


@dataclass(frozen=True)
class Lineage:
    start: str  # id of the first link
    links: tuple[Link, ...]  # nearest first

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(problem for link in self.links for problem in link.problems)


def lineage(
    folder: RunFolder,
    target: str | None,
    *,
    hash_bytes: bool = False,
    model_digest: Callable[[Path], str] | None = None,
) -> Lineage:
    """The chain behind `target`; behind the whole report where None is named.

    Args:
        target: a stage or its label, MODEL:METRIC, a plot or table of the report, or a file of the run.
        hash_bytes, model_digest: as in Chain.
    """
    read_run_record(folder)
    chain = Chain(folder, hash_bytes=hash_bytes, model_digest=model_digest)
    start = _report(chain) if target is None else _named(chain, target)
    return Lineage(start, tuple(chain.reachable(start)))


def _named(chain: Chain, target: str) -> str:
    for name, stage in chain.stages.items():
        if target in (name, stage.get("label")):
            return chain.model(name)
    if target == "data":
        return chain.data()
    path = _existing(chain.folder, target)
    if path is not None and chain.folder.report.parent in path.parents:
        return _of_report(chain, path.relative_to(chain.folder.report.parent).as_posix())
    found = None if path is None else _file(chain, path)
    return _of_report(chain, target) if found is None else found


def _existing(folder: RunFolder, target: str) -> Path | None:
    """A file or folder: from here, or from the run's folder, the report's or the runs root."""
    for place in (Path.cwd(), folder.path, folder.report.parent, folder.root.path):
        path = (place / target).resolve()
        if path.exists() and folder.root.path.resolve() in path.parents:
            return folder.root.path / path.relative_to(folder.root.path.resolve())
    return None


def _file(chain: Chain, path: Path) -> str | None:
    """The link that holds a file; a file inside a checkpoint counts for the checkpoint."""
    _report(chain)
    for name, stage in chain.stages.items():
        if stage.get("training"):
            chain.log(name, held_out=True)
    wanted = relative(path, chain.root)
    for link in chain.links.values():
        if any(wanted == file.path or wanted.startswith(f"{file.path}/") for file in link.files):
            return link.id
    if path == chain.folder.record:
        return chain.config()
    if path.is_file():
        fix = "name an artifact of the run"
        raise ConfigError("no manifest of this run tells where it is from", where=wanted, fix=fix)
    return None


def _report(chain: Chain) -> str:
    """The report as a whole: every evaluation of every model, and the logs of training."""
    sources = [chain.scores(name, folder) for name, folder in _evaluations(chain)]
    sources += [chain.log(name) for name, stage in chain.stages.items() if stage.get("training")]
    path = relative(chain.folder.report, chain.root)
    there = chain.folder.report.exists()
    asked = ((chain.record.get("config") or {}).get("execution") or {}).get("report_page", True)
    missing = "is missing; spin-diffusion report writes it" if asked else ""  # an arm of a comparison has none
    file = Standing(path, hash_file(chain.folder.report) if there else None, "" if there else missing)
    return chain.add(Link("report", "report", path, file.digest, (*sources, chain.config()), {}, (file,)))


def _evaluations(chain: Chain) -> Iterator[tuple[str, EvaluationFolder]]:
    """Every evaluation that run.json names, with whose it is."""
    for name, entry in {"data": chain.record.get("data") or {}, **chain.stages}.items():
        known = (entry.get("evaluations") or {}).values() or filter(None, [entry.get("evaluation")])
        for path in known:
            yield name, EvaluationFolder(chain.root.path / path)


def _of_report(chain: Chain, target: str) -> str:
    """A number, or a file of the report, by its path, its name, or its name without an ending."""
    model, colon, metric = target.rpartition(":")
    if colon:
        return _number(chain, model, metric)
    report = chain.folder.report
    paths = [path.relative_to(report.parent).as_posix() for path in sorted(report.parent.rglob("*")) if path.is_file()]
    names = {form: path for path in paths for form in (Path(path).stem, Path(path).name, path)}
    if target not in names:
        close = get_close_matches(target, [*names, *chain.stages, "data"], n=1) or [report.name]
        where = relative(report.parent, chain.root)
        raise ConfigError(
            f"no figure, model or file {target[:80]!r}", where=chain.folder.path.name,
            fix=f"did you mean {close[0]!r}? Figures are the files below {where}",
        )  # fmt: skip
    return _report(chain) if names[target] == report.name else _figure(chain, names[target])


def _figure(chain: Chain, path: str) -> str:
    """A file of the report, held against what the scores give now."""
    run = read_run(runs_root=chain.root.path, run=chain.folder.path.name)
    file, text = chain.folder.report.parent / path, _text(run, path)
    stale = text is not None and file.read_bytes() != text.encode()
    problem = "is not what the scores give now; spin-diffusion report writes it anew" if stale else ""
    standing = Standing(relative(file, chain.root), hash_file(file), problem)
    sources = tuple(_sources(chain, run, path))
    return chain.add(Link(f"figure {path}", "figure", path, standing.digest, sources, {}, (standing,)))


def _sources(chain: Chain, run: Run, path: str) -> Iterator[str]:
    """What a file of the report is made from, by its name."""
    name, trained = Path(path).stem, [stage for stage in run.stages if stage.training is not None]
    if path.startswith("plots/") and name.startswith((_GAME, _SUPERVISED)):
        yield from (chain.log(stage.name) for stage in trained if stage.plays == name.startswith(_GAME))
    elif path.startswith("plots/") and name.startswith(_HELD_OUT):
        yield chain.log(name.removeprefix(_HELD_OUT), held_out=True)
    elif name in _RECORD_TABLES:
        yield chain.config()
    else:
        if name in _VOTE_TABLES:
            yield chain.votes()
        key = name.rpartition(".")[0]
        seen = run.on(key) if key in run.further else run
        link = chain.pictures if path.endswith(".png") else chain.scores
        measured = [("data", seen.data), *((stage.name, stage.evaluation) for stage in seen.stages)]
        yield from (link(name, found.folder) for name, found in measured if found.folder is not None)


def _text(run: Run, path: str) -> str | None:
    """What a table or a plot would hold if it were written now; None for other files."""
    first = board(run, run.key)
    if path == "table.csv":
        return csv_text(first.rows)
    if not path.startswith(("tables/", "plots/")):
        return None
    from spin.report.drawings import draw_all  # plots: half a second
    from spin.report.exports import exports

    drawings = draw_all(run, first) if path.startswith("plots/") else ()
    every = [first, *further_boards(run)] if path.startswith("tables/") else [first]
    return next((made.text for made in exports(run, every, cost_table(run), drawings) if made.path == path), "")


def _number(chain: Chain, model: str, metric: str) -> str:
    """A mean of the score table, as the scores give it now."""
    run = read_run(runs_root=chain.root.path, run=chain.folder.path.name)
    first = board(run, run.key)
    rows = {form: row for row in first.rows for form in (row.label, row.name)}
    cells = {cell.column.metric: cell for row in [rows[model]] for cell in row.cells} if model in rows else {}
    cell = cells.get(metric)
    if cell is None or cell.mean is None:
        known = [row.name for row in first.rows] if model not in rows else list(cells)
        raise ConfigError(f"no number {model}:{metric}"[:120], where=run.name, fix=f"there are {', '.join(known)}")
    row = rows[model]
    seen = run.data if row.name == "data" else next(s.evaluation for s in run.stages if s.name == row.name)
    assert seen.folder is not None
    facts = {"value": cell.mean.value, "low": cell.mean.low, "high": cell.mean.high}
    name, source = f"{row.label}: {cell.column.title}", chain.scores(row.name, seen.folder)
    return chain.add(Link(f"number {row.name}:{metric}", "number", name, None, (source,), facts))
