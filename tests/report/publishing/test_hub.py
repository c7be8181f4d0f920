"""A push says what it needs before it begins, and sends the files that it is told of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from spin.core.errors import ConfigError
from spin.report.publishing.hub import push, refuse_push
from spin.report.publishing.licences import Licence
from tests.report.publishing.hub_server import Hub, serving

UNKNOWN = Licence("own pictures", None, "no card of it is known here", key="publish.data_licence")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as found:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", found.address)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out" / "unet").mkdir(parents=True)
    (tmp_path / "out" / "README.md").write_text("---\nlicense: mit\n---\n\n# A card\n")
    (tmp_path / "out" / "unet" / "weights[1].safetensors").write_bytes(b"\0weights")
    return tmp_path / "out"


FILES = ("README.md", "unet/weights[1].safetensors")


@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize("private", [True, False])
def test_the_files_arrive_and_nothing_that_lies_beside_them(hub: Hub, folder: Path, kind: str, private: bool) -> None:
    for beside in (".env", "unet/weights1.safetensors", "unet/README.md"):
        (folder / beside).write_text("somebody's")
    address = push(folder, "me/mine", files=FILES, kind=kind, private=private, message="tiny, SPIN 2")  # type: ignore[arg-type]
    assert hub.files == {name: (folder / name).read_bytes() for name in FILES}
    (made,) = hub.repositories
    assert (made["organization"], made["name"], made.get("type", "model")) == ("me", "mine", kind)
    assert made.get("private", made.get("visibility") == "private") is private
    assert hub.summaries == ["tiny, SPIN 2"]
    assert hub.tokens == {"hf_of_a_test"}
    assert address.endswith("me/mine")


def test_a_hub_that_refuses_is_told_in_one_line(hub: Hub, folder: Path) -> None:
    hub.refuses = "you have no rights to namespace me"
    with pytest.raises(ConfigError) as caught:
        push(folder, "me/mine", files=FILES, kind="model", private=True, message="x")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("--push-to-hub me/mine: the hub did not take it: ")
    assert "you have no rights to namespace me" in line
    assert "hf_of_a_test" not in line


def test_without_a_network_one_line_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    with pytest.raises(ConfigError, match=r"the hub did not take it: .*; .*out is whole: the same command tries again"):
        push(folder, "me/mine", files=FILES, kind="model", private=True, message="x")


@pytest.mark.parametrize(
    ("repository", "unknown", "offline", "token", "message"),
    [
        ("mine", (), False, True, "is no name of a repository; name OWNER/NAME"),
        ("me/my model", (), False, True, "is no name of a repository"),
        ("../me/x", (), False, True, "is no name of a repository"),
        ("me/x", (UNKNOWN,), False, True, "without a licence: own pictures: unknown: set publish.data_licence"),
        ("me/x", (), True, True, "switched off by HF_HUB_OFFLINE; unset it"),
        ("me/x", (), False, False, "nobody is logged in to the hub; hf auth login, or export HF_TOKEN"),
    ],
)
def test_what_stands_in_the_way_is_said_before_anything_is_sent(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    repository: str, unknown: tuple[Licence, ...], offline: bool, token: bool, message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    if not token:
        monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError) as caught:
        refuse_push(repository, unknown)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hub.tokens == set()


def test_with_licences_a_name_and_a_login_nothing_stands_in_the_way(hub: Hub) -> None:
    refuse_push("me/mine", ())
