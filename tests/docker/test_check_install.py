"""The script that runs the Dockerfile's steps: it reads the file as an engine does, and the steps hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.container_files import FOLDER, check_install

TEXT = """# a comment
ARG DEVICE=one
FROM image:1 AS base
ENV A=1 B="two words"
FROM base AS one
FROM base AS two
ENV C=3
# a comment
FROM ${DEVICE}
RUN first \\
  # a comment inside
 && second
"""


def test_continued_lines_are_one_step_and_comments_are_none() -> None:
    assert check_install.instructions(TEXT)[-1] == check_install.Instruction("RUN", "first && second")
    assert len(check_install.instructions(TEXT)) == 8


def test_the_chain_follows_the_argument_that_chooses_a_stage() -> None:
    names = {device: check_install.chain(TEXT, {"DEVICE": device}) for device in ("one", "two")}
    assert [step.value for step in names["one"]] == ['A=1 B="two words"', "first && second"]
    assert [step.value for step in names["two"]] == ['A=1 B="two words"', "C=3", "first && second"]
    assert check_install.chain(TEXT, {}) == names["one"]
    assert check_install.assignments('A=1 B="two words"') == {"A": "1", "B": "two words"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", True), ("keep", False), ("keep/a/b.py", False), ("keep/b.pyc", True), ("keep/a/b.pyc", True),
        ("keepsake", True), ("x/keep", True), ("one.egg-info/PKG", True), ("keep/one.egg-info/PKG", True),
    ],
)  # fmt: skip
def test_the_last_rule_that_fits_decides_what_is_left_out(name: str, expected: bool) -> None:
    rules = ["*", "!keep", "!*.egg-info", "**/*.pyc", "**/*.egg-info"]
    assert check_install.ignored(name, rules) is expected


def test_copy_puts_a_folder_s_content_into_the_target_and_a_file_into_a_folder(tmp_path: Path) -> None:
    context, target = tmp_path / "context", tmp_path / "target"
    (context / "pack").mkdir(parents=True)
    target.mkdir()
    (context / "pack" / "inner.py").touch()
    (context / "one.txt").touch()
    check_install.copy("pack ./pack", context, target)
    check_install.copy("one.txt ./", context, target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == ["one.txt", "pack", "pack/inner.py"]


def test_a_package_without_a_pin_is_named() -> None:
    installed = "Jinja2==3.1\nnew_thing==1\nspin-diffusion @ file:///x\n"
    assert check_install.unpinned("# versions\njinja2==3.1\n", installed) == ["new-thing"]


def test_only_what_needs_a_fresh_system_is_left_out() -> None:
    text = (FOLDER / "Dockerfile").read_text("utf-8")
    commands = [step.value for step in check_install.chain(text, {}) if step.name == "RUN"]
    run = [command for command in commands if not check_install.is_system_step(command)]
    assert len(commands) == 6
    assert [command.split()[0] for command in run] == ["pip", "python", "python", "pip"]


@pytest.mark.slow
def test_a_step_that_fails_is_a_failure(tmp_path: Path) -> None:
    build = check_install.Build(tmp_path, {"WORD": "given"})
    for name, value in (("ARG", "WORD"), ("ARG", 'OTHER="own"'), ("WORKDIR", "/opt/x"), ("ENV", "E=1")):
        build.step(check_install.Instruction(name, value))
    build.step(check_install.Instruction("RUN", 'test "${WORD} ${OTHER} ${E}" = "given own 1"'))
    build.step(check_install.Instruction("RUN", f'test "$(command -v pip)" = "{build.bin}/pip"'))
    with pytest.raises(subprocess.CalledProcessError):
        build.step(check_install.Instruction("RUN", "false && true"))


@pytest.mark.slow
@pytest.mark.timeout(2400)  # a new environment, torch in it: five minutes on two cores
def test_the_dockerfile_s_own_steps_install_a_project_that_runs() -> None:
    done = subprocess.run([sys.executable, FOLDER / "check_install.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("the Dockerfile's install steps hold")
    assert sum("left out" in line for line in lines) == 2
    assert sum(line.startswith("ok ") for line in lines) >= 7
