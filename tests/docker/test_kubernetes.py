"""What must hold of the Kubernetes examples: valid for Kubernetes and for Prefect, every pool served, nobody root."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.docker.container_files import (
    FOLDER,
    POOLS,
    image_user,
    pools_of,
    project,
    read_yaml,
    runs_root,
)

validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate").validate
ITEMS: list[dict[str, Any]] = read_yaml("kubernetes.yaml")["items"]
PODS = {
    item["metadata"]["name"]: item["spec"]["template"]["spec"]
    for item in ITEMS
    if item["kind"] in ("Deployment", "Job")
}
PLACEHOLDER = re.compile(r"\{\{ (\w+) }}")


def template() -> dict[str, Any]:
    return json.loads((FOLDER / "kubernetes-pool.json").read_text())


def fill(value: Any, variables: dict[str, Any]) -> Any:
    """What a worker does: a value that is one placeholder becomes the variable, whatever its type."""
    if isinstance(value, dict):
        return {key: fill(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value
    if whole := PLACEHOLDER.fullmatch(value):
        return variables[whole[1]]
    return PLACEHOLDER.sub(lambda match: str(variables[match[1]]), value)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item['kind']} {item['metadata']['name']}")
def test_kubernetes_schema_accepts_it_strictly(item: dict[str, Any]) -> None:
    validate(item, "1.37", strict=True)


def test_the_schema_is_one_that_refuses() -> None:
    with pytest.raises(Exception, match="replica"):
        validate({**ITEMS[-1], "spec": {**ITEMS[-1]["spec"], "replica": 1}}, "1.37", strict=True)


def test_every_pool_has_its_own_workers() -> None:
    served = {name: pools_of(pod["containers"][0]["args"]) for name, pod in PODS.items()}
    assert served == {"spin-deploy": [], **{pool: [pool] for pool in POOLS}}


def test_our_command_line_understands_every_command() -> None:
    for pod in PODS.values():
        assert runs_root(pod["containers"][0]["args"]) == "/runs"


def test_the_runs_root_is_one_claim_that_many_nodes_may_write() -> None:
    (claim,) = [item for item in ITEMS if item["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in PODS.values():
        (container,) = pod["containers"]
        paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert paths["runs"] == "/runs"
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_gpus_are_asked_for_where_they_are_used_and_only_there() -> None:
    asked = {name: pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu", 0) for name, pod in PODS.items()}
    assert asked == {"spin-deploy": 0, "spin-control": 0, "spin-gpu": 1, "spin-train": 4}
    for name, pod in PODS.items():
        arguments = pod["containers"][0]["args"]
        if asked[name]:
            assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
            assert "nodeSelector" in pod
            assert arguments[arguments.index("--gpus") + 1] == "all"


def test_nobody_is_root_and_images_carry_the_project_s_version() -> None:
    user, group = map(int, image_user().split(":"))
    version = project()["project"]["version"]
    asked = template()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    for pod in [*PODS.values(), asked]:
        security = pod["securityContext"]
        assert security["runAsNonRoot"]
        assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (user, group, group)
        assert not pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"]
    for name, pod in PODS.items():
        device = "cuda" if "tolerations" in pod else "cpu"
        assert pod["containers"][0]["image"] == f"spin-diffusion:{version}-{device}", name
    assert template()["variables"]["properties"]["image"]["default"] == f"spin-diffusion:{version}-cuda"


def test_no_secret_stands_in_the_files() -> None:
    assert not [item for item in ITEMS if item["kind"] == "Secret"]
    for name in ("kubernetes.yaml", "kubernetes-pool.json"):
        assert not re.search(r"password|secret|://[^/\s]*:[^/\s]*@", (FOLDER / name).read_text(), re.IGNORECASE)


def test_prefect_takes_the_template_of_the_work_pool() -> None:
    from prefect.server.schemas.actions import WorkPoolCreate

    pool = WorkPoolCreate(name="spin-gpu", type="kubernetes", base_job_template=template())
    assert set(pool.base_job_template["variables"]["properties"]) == set(PLACEHOLDER.findall(json.dumps(template())))


def test_a_job_of_the_work_pool_is_valid_and_has_its_gpus_and_the_runs_root() -> None:
    variables = {name: field.get("default") for name, field in template()["variables"]["properties"].items()}
    variables |= {"name": "shard", "command": ["prefect", "flow-run", "execute"], "labels": {}, "annotations": {}}
    variables |= {"env": [{"name": "A", "value": "b"}], "gpus": 4}  # a worker gives the list that Kubernetes wants
    job = fill(template()["job_configuration"]["job_manifest"], variables)
    validate(job, "1.37", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert {"name": "runs", "mountPath": "/runs"} in container["volumeMounts"]
    assert container["command"] + container["args"] == ["env", "prefect", "flow-run", "execute"]
