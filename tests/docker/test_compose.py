"""What must hold of compose.yaml, resolved by the compose specification's rules."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.docker.container_files import (
    FOLDER,
    POOLS,
    ROOT,
    SECRETS,
    RequiredVariableError,
    compose,
    image_json,
    interpolate,
    parse_command,
    pools_of,
    project,
    read_yaml,
    runs_root,
)

PASSWORD = {"POSTGRES_PASSWORD": "p@ss/w:rd$1"}


@pytest.fixture
def services() -> dict[str, Any]:
    return compose(PASSWORD)["services"]


def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if service["image"].startswith("spin-diffusion:")}


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [str(value)]


@pytest.mark.parametrize("variables", [{}, {"POSTGRES_PASSWORD": ""}], ids=["unset", "empty"])
def test_it_refuses_to_start_without_a_password_and_says_how_to_make_one(variables: dict[str, str]) -> None:
    with pytest.raises(RequiredVariableError, match=r"POSTGRES_PASSWORD: choose one.*openssl rand"):
        compose(variables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A:-x}", "x"), ("${A-x}", "x"), ("${E:-x}", "x"), ("${E-x}", ""), ("${V:-x}", "v"), ("${V}", "v"),
        ("$V", "v"), ("$$V", "$V"), ("${V:?no}", "v"), ("${E?no}", ""), ("${V:+x}", "x"), ("${E:+x}", ""),
        ("a${A}b", "ab"), ("${V}:${V}", "v:v"),
    ],
)  # fmt: skip
def test_the_rules_of_variables_are_the_specification_s(text: str, expected: str) -> None:
    assert interpolate(text, {"V": "v", "E": ""}) == expected


def test_no_secret_stands_in_the_file() -> None:
    raw = read_yaml("compose.yaml")["services"]
    named = [
        (name, key, value)
        for name, service in raw.items()
        for key, value in service.get("environment", {}).items()
        if SECRETS.search(key)
    ]
    assert [(name, key) for name, key, _ in named] == [("postgres", "POSTGRES_PASSWORD"), ("server", "PGPASSWORD")]
    assert all(value.startswith("${POSTGRES_PASSWORD:?") for *_, value in named)
    assert not re.search(r"://[^/\s]*:[^/\s]*@", (FOLDER / "compose.yaml").read_text())


def test_the_password_reaches_the_database_and_the_server_only(services: dict[str, Any]) -> None:
    holders = {name for name, service in services.items() if PASSWORD["POSTGRES_PASSWORD"] in strings(service)}
    assert holders == {"postgres", "server"}
    assert not any("p@ss" in text for text in strings(services) if text != PASSWORD["POSTGRES_PASSWORD"])


def test_ports_are_open_on_loopback_only(services: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"server": ["127.0.0.1:4200:4200"]}
    moved = compose({**PASSWORD, "PREFECT_PORT": "4300"})["services"]["server"]
    assert moved["ports"] == ["127.0.0.1:4300:4200"]
    assert moved["environment"]["PREFECT_UI_API_URL"] == "http://127.0.0.1:4300/api"
    assert not any("network_mode" in service for service in services.values())


def test_the_server_keeps_its_state_in_postgres(services: dict[str, Any]) -> None:
    server, database = services["server"], services["postgres"]["environment"]
    address = server["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert address == f"postgresql+asyncpg://{database['POSTGRES_USER']}@postgres:5432/{database['POSTGRES_DB']}"
    assert [*server["entrypoint"], *server["command"][:2]] == ["prefect", "server", "start"]
    assert services["postgres"]["volumes"] == ["postgres:/var/lib/postgresql/data"]


def test_each_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    worker = {"deploy": "service_completed_successfully"}
    assert waits == {
        "postgres": {},
        "server": {"postgres": "service_healthy"},
        "deploy": {"server": "service_healthy"},
        "control": worker,
        "cpu": worker,
        "gpu": worker,
    }
    assert "pg_isready" in services["postgres"]["healthcheck"]["test"]
    assert "PREFECT_API_URL" in image_json("HEALTHCHECK")[-1]
    for name, service in ours(services).items():
        expected = "http://127.0.0.1:4200/api" if name == "server" else "http://server:4200/api"
        assert service["environment"]["PREFECT_API_URL"] == expected
        assert "healthcheck" not in service


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_each_profile_serves_every_pool_once(services: dict[str, Any], profile: str) -> None:
    started = [service for service in services.values() if profile in service.get("profiles", [profile])]
    pools = [pool for service in started for pool in pools_of(service.get("command", []))]
    assert sorted(pools) == sorted(POOLS)


def test_the_gpus_are_reserved_by_the_one_service_of_the_profile_gpu(services: dict[str, Any]) -> None:
    reserving = {name: service["deploy"] for name, service in services.items() if "deploy" in service}
    assert list(reserving) == ["gpu"]
    assert reserving["gpu"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    assert services["gpu"]["profiles"] == ["gpu"]
    assert services["gpu"]["build"]["args"] == {"DEVICE": "cuda"}
    without = [name for name, service in services.items() if "--gpus" in service.get("command", []) and name != "gpu"]
    assert without == ["control", "cpu"]
    for name in without:
        command = services[name]["command"]
        assert command[command.index("--gpus") + 1] == "none"


def test_the_runs_root_is_one_volume_at_one_path(services: dict[str, Any]) -> None:
    for name, service in ours(services).items():
        if name == "server":
            continue
        assert service["volumes"] == ["runs:/runs"]
        assert runs_root(service["command"]) == "/runs"
    assert set(compose(PASSWORD)["volumes"]) == {"postgres", "runs"}


def test_our_command_line_understands_every_command(services: dict[str, Any]) -> None:
    read = {name: parse_command(service["command"]) for name, service in ours(services).items() if name != "server"}
    assert {name: values.get("pools") for name, values in read.items()} == {
        "deploy": None,
        "control": ["spin-control"],
        "cpu": ["spin-gpu", "spin-train"],
        "gpu": ["spin-gpu", "spin-train"],
    }


def test_images_are_pinned_and_ours_carry_the_project_s_version(services: dict[str, Any]) -> None:
    version = project()["project"]["version"]
    assert re.fullmatch(r"postgres:15\.\d+-bookworm@sha256:[0-9a-f]{64}", services["postgres"]["image"])
    devices = {"cpu": "cpu", "cuda": "cuda"}
    assert set(ours(services)) == set(services) - {"postgres"}
    for service in ours(services).values():
        device = devices[service["build"]["args"]["DEVICE"]]
        assert service["image"] == f"spin-diffusion:{version}-{device}"
        assert (FOLDER / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_nothing_of_ours_may_gain_rights(services: dict[str, Any]) -> None:
    for service in ours(services).values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("privileged", False)
