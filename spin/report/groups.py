"""The last model against its start inside each category and challenge of the benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spin.report.reading import Run
from spin.report.request import Column, Comparison
from spin.report.scoring import compare, opponents
from spin.report.subjects import Subject

SMALLEST = 10  # prompts; a bootstrap over fewer is too narrow to be shown


@dataclass(frozen=True)
class GroupLine:
    name: str
    prompts: int
    cells: tuple[Comparison | None, ...]  # one for each column


@dataclass(frozen=True)
class GroupTable:
    kind: str  # category or challenge
    model: str
    opponent: str
    columns: tuple[Column, ...]
    lines: tuple[GroupLine, ...]
    small: tuple[str, ...]  # groups of fewer prompts than SMALLEST


def group_tables(run: Run, subjects: Sequence[Subject], columns: Sequence[Column]) -> tuple[GroupTable, ...]:
    """A table for the categories and one for the challenges, where the benchmark has them."""
    asked = [column for column in columns if column.kind != "measure"]
    judged = [s for s in subjects if s.stage is not None and any(column.metric in s.values for column in asked)]
    if not judged:
        return ()
    found = dict(opponents(run, judged[-1], list(subjects)))
    other = found.get("start") or found.get("base")
    if other is None:
        return ()
    evaluations = [stage.evaluation for stage in run.stages]
    kinds = {
        "category": {prompt: name for each in evaluations for prompt, name in each.categories.items()},
        "challenge": {prompt: name for each in evaluations for prompt, name in each.challenges.items()},
    }
    return tuple(
        _table(run, kind, groups, judged[-1], other, asked)
        for kind, groups in kinds.items()
        if len(set(groups.values()))
    )


def _table(
    run: Run, kind: str, groups: Mapping[str, str], model: Subject, other: Subject, columns: Sequence[Column]
) -> GroupTable:
    sizes = Counter(groups[prompt] for prompt in model.prompts & other.prompts if prompt in groups)
    lines = []
    for name in sorted(name for name, size in sizes.items() if size >= SMALLEST):
        members = {prompt for prompt, group in groups.items() if group == name}
        found = compare(run, "start", _inside(model, members), _inside(other, members))
        lines.append(GroupLine(name, sizes[name], tuple(found.get(column.metric) for column in columns)))
    small = tuple(f"{name} ({size})" for name, size in sorted(sizes.items()) if size < SMALLEST)
    return GroupTable(kind, model.label, other.label, tuple(columns), tuple(lines), small)


def _inside(subject: Subject, prompts: set[str]) -> Subject:
    """The subject on some of its prompts."""
    values = {m: {p: v for p, v in found.items() if p in prompts} for m, found in subject.values.items()}
    return replace(subject, values=values, prompts=subject.prompts & prompts)
