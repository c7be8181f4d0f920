"""Rules that a type and a range cannot say: names, lists as long as the iterations, sources that need a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

RESERVED_RUN_NAMES: Final = ("cache", "evaluations")  # folders beside the runs, in the runs root
SCORERS: Final = ("alignment", "aesthetic", "attributes", "frechet", "frechet_clean", "diversity")
JUDGES: Final = ("alignment", "aesthetic", "attributes")  # of SCORERS, those that see one picture at a time

_CRON: Final = re.compile(r"[0-9*/,\-]+(\s+[0-9A-Za-z*/,\-?L#]+){4}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RUN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_run_name(name: str) -> str:
    if not _RUN_NAME.fullmatch(name):
        raise ValueError(f"expected 1 to 64 letters, digits, '.', '_' or '-', no mark in front; got {name[:40]!r}")
    if name in RESERVED_RUN_NAMES:
        raise ValueError(f"{name!r} is a folder of the house; choose another name")
    return name


def check_scorers(value: object) -> object:
    if isinstance(value, list | tuple):
        twice = next((name for i, name in enumerate(value) if name in value[:i]), None)
        if twice is not None:
            raise ValueError(f"names {str(twice)[:40]!r} twice")
    elif value != "auto":
        raise ValueError(f"expected auto, or a list of {', '.join(SCORERS)}; got {str(value)[:40]!r}")
    return value


def check_metric(name: str) -> str:
    if name != "auto" and name not in JUDGES:
        raise ValueError(f"expected auto, or one of {', '.join(JUDGES)}; got {name[:40]!r}")
    return name


def check_cron(text: str) -> str:
    if not _CRON.fullmatch(text):
        raise ValueError(f"expected five fields such as '30 4 * * *'; got {text[:40]!r}")
    return text


def check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name[:40]!r}; expected a name such as Europe/Berlin") from None
    return name


def check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("expected the name of an environment variable; keep the URL itself out of the config")
    return name


def broken_rules(tree: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """Rules between settings that `tree` breaks; values of a wrong type are passed over, pydantic names those."""
    broken: list[tuple[tuple[str, ...], str]] = []
    iterations, train, data = tree.get("iterations"), tree.get("train"), tree.get("data")
    if isinstance(train, Mapping) and type(iterations) is int:
        for name in ("beta", "lr", "steps"):
            value = train.get(name)
            if isinstance(value, list | tuple) and 0 < len(value) < iterations:
                problem = f"has {len(value)} values, but iterations is {iterations}"
                broken.append((("train", name), f"{problem}; give {iterations}, or one number for all"))
    if isinstance(data, Mapping):
        broken += _broken_data_rules(data)
    return broken + _broken_gate_rules(tree)


def _broken_gate_rules(tree: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """A gate that waits for a judge which never judges would be met only after the first iteration."""
    gate, evaluation, data = (tree.get(name) for name in ("gate", "evaluation", "data"))
    if not (isinstance(gate, Mapping) and isinstance(evaluation, Mapping) and isinstance(data, Mapping)):
        return []
    metric, scorers = gate.get("metric"), evaluation.get("scorers")
    if gate.get("mode") == "off" or metric == "auto" or metric not in JUDGES:
        return []
    judging = JUDGES if scorers == "auto" and data.get("source") == "miniature" else scorers
    if isinstance(judging, list | tuple) and metric in judging:
        return []
    return [(("gate", "metric"), f"{metric} does not judge this run; name one of evaluation.scorers, or auto")]


def _broken_data_rules(data: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    source, path = data.get("source"), data.get("path")
    if source == "miniature" and path is not None:
        return [(("data", "path"), "has no use with data.source miniature; set data.source to imagefolder or parquet")]
    broken: list[tuple[tuple[str, ...], str]] = []
    if source in ("imagefolder", "parquet"):
        if path is None:
            broken.append(
                (("data", "path"), f"missing; data.source {source} needs the folder, file or URL of your pictures")
            )
        if data.get("target") == "clean":
            broken.append((("data", "target"), f"clean exists only in the miniature, not with data.source {source}"))
    return broken
