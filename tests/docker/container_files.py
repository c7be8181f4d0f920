"""What the tests of docker/ read: the Dockerfile, the compose file as an engine resolves it, the Kubernetes files."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from ruamel.yaml import YAML

from spin.core.config import load_config

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker"
POOLS = ("spin-control", "spin-gpu", "spin-train")
SECRETS = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY")


class RequiredVariableError(ValueError):
    """A variable that the compose file asks for is not there."""


def load_check_install() -> ModuleType:
    """The script beside the Dockerfile; `docker` is no package of ours (it is the name of another project's)."""
    spec = importlib.util.spec_from_file_location("check_install", FOLDER / "check_install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check_install = load_check_install()


def dockerfile() -> str:
    return (FOLDER / "Dockerfile").read_text("utf-8")


def image_settings() -> dict[str, str]:
    """Every ENV of the image for a processor."""
    found: dict[str, str] = {}
    for step in check_install.chain(dockerfile(), {}):
        if step.name == "ENV":
            found.update(check_install.assignments(step.value))
    return found


def image_json(name: str) -> list[str]:
    """The last ENTRYPOINT, or the last HEALTHCHECK's command, in its JSON form."""
    value = [step.value for step in check_install.chain(dockerfile(), {}) if step.name == name][-1]
    return json.loads(value[value.index("[") :])


def image_user() -> str:
    return [step.value for step in check_install.chain(dockerfile(), {}) if step.name == "USER"][-1]


def read_yaml(name: str) -> Any:
    return YAML(typ="safe").load(FOLDER / name)


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with every variable filled in."""
    return resolve(read_yaml("compose.yaml"), variables)


def resolve(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: resolve(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve(inner, variables) for inner in value]
    return interpolate(value, variables) if isinstance(value, str) else value


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """The compose specification's rules, without nesting: $$, $NAME, ${NAME}, and ${NAME} with :- - :? ? :+ +."""

    def fill(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name, operator, rest = match["plain"] or match["name"], match["operator"] or "", match["rest"] or ""
        value = variables.get(name)
        there = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("?") and not there:
            raise RequiredVariableError(f"{name}: {rest}")
        if operator.endswith("+"):
            return rest if there else ""
        return (value or "") if there else rest

    rule = r"\$(?:(?P<escaped>\$)|(?P<plain>\w+)|\{(?P<name>\w+)(?:(?P<operator>:?[-?+])(?P<rest>[^{}]*))?\})"
    return re.sub(rule, fill, text)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def parse_command(arguments: list[str]) -> dict[str, Any]:
    """Read a container's arguments as our command line does; a wrong one raises."""
    import typer

    from flows.cli import app

    name, *rest = arguments
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return command.make_context(name, rest).params


def runs_root(arguments: list[str]) -> str:
    """The runs root that our command line reads from a container's arguments."""
    read = parse_command(arguments)
    return str(read["root"]) if "root" in read else load_config("miniature", overrides=read["overrides"]).run.root


def pools_of(arguments: list[str]) -> list[str]:
    return [word for option, word in pairwise(arguments) if option == "--pool"]
