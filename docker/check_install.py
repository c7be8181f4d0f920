#!/usr/bin/env python3
"""Runs the Dockerfile's own install steps without a container engine: in a new virtual environment, in a temporary
folder, with the files that the build would be given; then asks the installed command whether this machine can run it.

    python docker/check_install.py [--build-arg NAME=VALUE] [--keep]

What only root in a fresh system may do (apt-get, useradd) is named and left out. Standard library only: nothing of
the project is installed when this starts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
DOCKERFILE: Final = REPOSITORY / "docker" / "Dockerfile"
DOCKERIGNORE: Final = REPOSITORY / "docker" / "Dockerfile.dockerignore"
SYSTEM_COMMANDS: Final = ("apt-get", "useradd")
_VARIABLE: Final = re.compile(r"\$\{(\w+)}|\$(\w+)")
_ASSIGNMENT: Final = re.compile(r"""(\w+)=("[^"]*"|\S*)""")


@dataclass(frozen=True)
class Instruction:
    name: str  # upper case
    value: str  # one line, continuations joined


@dataclass(frozen=True)
class Stage:
    image: str  # what FROM names: an image or an earlier stage
    name: str
    instructions: tuple[Instruction, ...]


def instructions(text: str) -> list[Instruction]:
    """Read a Dockerfile: comments dropped, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        Instruction(name.upper(), value.strip())
        for name, _, value in (line.partition(" ") for line in joined.splitlines())
    ]


def global_arguments(text: str) -> dict[str, str]:
    """The ARG lines before the first FROM: name and default."""
    found = {}
    for step in instructions(text):
        if step.name == "FROM":
            break
        found.update(assignments(step.value))
    return found


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile, in its order."""
    found: list[tuple[str, str, list[Instruction]]] = []
    for step in instructions(text):
        if step.name == "FROM":
            image, _, name = step.value.partition(" AS ")
            found.append((image, name, []))
        elif found:
            found[-1][2].append(step)
    return [Stage(image, name, tuple(steps)) for image, name, steps in found]


def chain(text: str, arguments: Mapping[str, str]) -> list[Instruction]:
    """Every instruction that the last stage is built from, the earliest stage's first."""
    by_name = {stage.name: stage for stage in stages(text)}
    values = {**global_arguments(text), **arguments}
    wanted: str | None = stages(text)[-1].name
    found: list[Instruction] = []
    while wanted in by_name:
        stage = by_name[wanted]
        found[:0] = stage.instructions
        wanted = expand(stage.image, values)
    return found


def assignments(value: str) -> dict[str, str]:
    """`NAME=value OTHER="a b"`, of ENV and ARG."""
    return {name: text.strip('"') for name, text in _ASSIGNMENT.findall(value)}


def expand(value: str, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), value)


def ignored(name: str, rules: Sequence[str]) -> bool:
    """Whether a .dockerignore keeps a path (relative, with /) from the build: the last rule that fits decides."""
    verdict = False
    for rule in rules:
        pattern = rule.removeprefix("!").strip("/")
        expression = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{expression}(?:/.*)?", name):
            verdict = not rule.startswith("!")
    return verdict


def context_files(repository: Path, rules: Sequence[str]) -> Iterator[PurePosixPath]:
    """The files that a build of the repository is given."""
    for folder, folders, files in os.walk(repository):
        folders[:] = [name for name in folders if name not in {".git", ".venv"}]  # thousands of files, never given
        for name in files:
            path = PurePosixPath(Path(folder, name).relative_to(repository).as_posix())
            if not ignored(str(path), rules):
                yield path


def ignore_rules(path: Path = DOCKERIGNORE) -> list[str]:
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip() and line[0] != "#"]


def copy(value: str, context: Path, workdir: Path) -> None:
    """COPY source... target, all relative: a folder gives its content; a target that ends in / takes files by name."""
    *sources, target = value.split()
    for source in sources:
        origin = context / source
        if origin.is_dir():
            shutil.copytree(origin, workdir / target, dirs_exist_ok=True)
        else:
            place = workdir / target
            shutil.copy2(origin, place / origin.name if target.endswith("/") else place)


def is_system_step(command: str) -> bool:
    return command.split()[0] in SYSTEM_COMMANDS


class Build:
    """A build into one folder: `context` holds what is given, `root` stands for the image's file system."""

    def __init__(self, folder: Path, arguments: Mapping[str, str]) -> None:
        self.context, self.root, self.home = folder / "context", folder / "root", folder / "home"
        self.home.mkdir(parents=True)
        self.arguments = dict(arguments)
        self.workdir = self.root
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        self.bin = environment / "bin"
        self.variables: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        """This machine's, without what belongs to another Python or another Prefect."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "PYTHON", "VIRTUAL_ENV", "COV_"))
        }
        path = f"{self.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {**kept, **self.variables, "PATH": path, "HOME": str(self.home)}

    def take_context(self, repository: Path, rules: Sequence[str]) -> int:
        paths = list(context_files(repository, rules))
        for path in paths:
            target = self.context / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / path, target)
        return len(paths)

    def step(self, step: Instruction) -> None:
        """Do one instruction; those that start no command and copy no file only describe the image."""
        if step.name == "ARG":
            for name in re.findall(r"^\w+", step.value):
                self.variables[name] = self.arguments.get(name, assignments(step.value).get(name, ""))
        elif step.name == "ENV":
            self.variables.update(assignments(step.value))
        elif step.name == "WORKDIR":
            self.workdir = self.root / step.value.strip("/")
            self.workdir.mkdir(parents=True, exist_ok=True)
        elif step.name == "COPY":
            copy(step.value, self.context, self.workdir)
        elif step.name == "RUN" and not is_system_step(step.value):
            self.run(["sh", "-ec", step.value])

    def run(self, command: Sequence[str]) -> None:
        subprocess.run(command, cwd=self.workdir, env=self.environment, check=True)


def unpinned(constraints: str, installed: str) -> list[str]:
    """What `pip freeze` names and constraints.txt does not, the project itself apart."""
    pinned, found = (
        {re.sub(r"[-_.]+", "-", line.partition("==")[0].partition(" @")[0]).lower() for line in text.splitlines()}
        for text in (constraints, installed)
    )
    return sorted(found - pinned - {"", "spin-diffusion"})


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def check(folder: Path, arguments: Mapping[str, str]) -> None:
    """Build into a folder, then run the image's entrypoint from the runs root's parent, as its user would."""
    text = DOCKERFILE.read_text("utf-8")
    build = Build(folder, {**global_arguments(text), **arguments})
    say(f"context: {build.take_context(REPOSITORY, ignore_rules())} files")
    entrypoint: list[str] = []
    for step in chain(text, arguments):
        started = time.monotonic()
        build.step(step)
        if step.name == "ENTRYPOINT":
            entrypoint = json.loads(step.value)
        if step.name == "RUN":
            seconds = f"{time.monotonic() - started:6.1f} s"
            say(f"{'left out' if is_system_step(step.value) else seconds}  {step.value[:90]}")
    command = shutil.which(entrypoint[0], path=str(build.bin))
    if command is None:
        raise FileNotFoundError(f"the steps installed no {entrypoint[0]}")
    installed = subprocess.run([build.bin / "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    constraints = (REPOSITORY / "constraints.txt").read_text("utf-8")
    say(f"not named in constraints.txt: {', '.join(unpinned(constraints, installed)) or 'nothing'}")
    build.run([command, *entrypoint[1:], "doctor", "--root", str(build.root / "runs")])


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the Dockerfile's install steps in a fresh environment.")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind")
    options = parser.parse_args()
    arguments = dict(text.split("=", 1) for text in options.build_arg)
    folder = Path(tempfile.mkdtemp(prefix="check-install-"))
    started = time.monotonic()
    try:
        check(folder, arguments)
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"the Dockerfile's steps fail here: {error}")
    finally:
        if options.keep:
            say(f"left in {folder}")
        else:
            shutil.rmtree(folder)
    say(f"the Dockerfile's install steps hold: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
