"""`lineage`: the chain of digests from a figure back to data, config and code, as a tree or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.text import Text
from rich.tree import Tree

from spin.core.layout import RunsRoot
from spin.diffusion.digest import model_digest
from spin.report.lineage import Lineage, lineage
from spin.report.link import Link
from tasks.showing import console

_DIGITS: Final = 12  # of a digest in the tree; JSON has all
_FACTS: Final = {  # what the tree tells of a link; JSON tells all
    "checkpoint": ("objective", "steps", "batch_size", "lr", "beta", "run_seed"),
    "pictures": ("guidance_scale", "num_inference_steps", "seed", "max_prompts"),
    "samples": ("guidance_scale", "guidance_interval", "num_inference_steps", "reuse_every"),
    "plan": ("shards",), "config": ("seed", "code_version"), "number": ("value", "low", "high"),
    "base model": ("path",), "data": ("path",), "averaged opponent": ("decay",),
}  # fmt: skip


def print_lineage(root: Path, run: str, target: str | None, *, as_json: bool, hash_bytes: bool) -> bool:
    """Print the chain; true where no link of it is broken."""
    folder = RunsRoot(root.absolute()).run(run)
    found = lineage(folder, target, hash_bytes=hash_bytes, model_digest=model_digest if hash_bytes else None)
    if as_json:
        print_json(run, target, found)
    else:
        print_tree(found, hash_bytes=hash_bytes)
    return not found.problems


def print_tree(found: Lineage, *, hash_bytes: bool) -> None:
    """Every link once; where it comes again only its name."""
    links = {link.id: link for link in found.links}
    told: set[str] = set()
    tree = Tree(_line(links[found.start]))
    _grow(tree, links[found.start], links, told)
    console.print(tree)
    depth = "every byte hashed" if hash_bytes else "manifests, sizes and footers; --verify hashes every byte"
    if found.problems:
        console.print(f"{len(found.problems)} broken ({depth}):", highlight=False)
        for problem in found.problems:
            console.print(Text(f"  {problem}", style="red"), soft_wrap=True)
    else:
        console.print(f"unbroken: {len(found.links)} links ({depth})", highlight=False)


def print_json(run: str, target: str | None, found: Lineage) -> None:
    links = {
        link.id: {key: value for key, value in asdict(link).items() if key != "id"} | {"problems": link.problems}
        for link in found.links
    }
    for values in links.values():
        values["files"] = [{key: file[key] for key in ("path", "digest", "broken")} for file in values["files"]]
    answer = {"run": run, "target": target, "whole": not found.problems, "start": found.start, "links": links}
    console.file.write(json.dumps(answer, indent=1) + "\n")


def _grow(tree: Tree, link: Link, links: Mapping[str, Link], told: set[str]) -> None:
    for id in link.made_from:
        again = id in told and bool(links[id].made_from)
        branch = tree.add(
            Text(f"{links[id].kind} {links[id].name} (above)", style="dim") if again else _line(links[id])
        )
        if not again:
            told.add(id)
            _grow(branch, links[id], links, told)


def _line(link: Link) -> Text:
    line = Text(f"{link.kind} ").append(link.name, style="bold")
    line.append(f" {(link.digest or 'no digest')[:_DIGITS]}", style="cyan")
    shards = [file for file in link.files if "shard-" in file.path]
    if shards:
        line.append(f" {len(shards)} file{'' if len(shards) == 1 else 's'}", style="dim")
    facts = {key: link.facts[key] for key in _FACTS.get(link.kind, ()) if link.facts.get(key) is not None}
    if facts:
        line.append(" " + ", ".join(f"{key} {_short(value)}" for key, value in facts.items()), style="dim")
    if link.problems:
        line.append(" BROKEN: " + "; ".join(link.problems), style="red")
    return line


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
