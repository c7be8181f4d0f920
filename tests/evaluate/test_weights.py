"""Weight files: only what is pinned is opened, and nothing in them is run."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

from spin.core.errors import ArtifactError
from spin.core.store import hash_file
from spin.evaluate.weights import load_into, load_state, require_sha256, under

STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}


class Malice:
    def __reduce__(self):
        return (open, ("/tmp/owned-by-a-checkpoint", "w"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin"])
def test_a_state_dict_is_read_from_every_kind_of_file(tmp_path, name):
    path = tmp_path / name
    save_file(STATE, path) if name.endswith("safetensors") else torch.save(STATE, path)
    require_sha256(path, hash_file(path))
    found = load_state(path)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in STATE.items()}


def test_another_file_than_the_pinned_one_is_refused_with_name_size_and_both_digests(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(STATE, path)
    seen, size = hash_file(path), path.stat().st_size
    with pytest.raises(ArtifactError) as caught:
        require_sha256(path, "0" * 64)
    line = str(caught.value)
    assert f"{path}: is not the pinned checkpoint: expected sha256 {'0' * 64}; seen {size} bytes, {seen}" in line
    assert "\n" not in line


def test_a_missing_file_says_what_fetches_it(tmp_path):
    with pytest.raises(ArtifactError, match="weights are missing; spin-diffusion doctor --scorers fetches them"):
        load_state(tmp_path / "gone.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.safetensors.gz"])
@pytest.mark.parametrize("content", [b"", b"half a file", b"PK\x03\x04 and no more"])
def test_a_file_that_is_cut_off_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"cannot be read as weights \({len(content)} bytes\)") as caught:
        load_state(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"a": Malice()}, path)
    with pytest.raises(ArtifactError, match="cannot be read as weights"):
        load_state(path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Malice()))
    with pytest.raises(ArtifactError, match="cannot be read as weights"):
        load_state(tmp_path / "plain.pt")


def test_weights_are_loaded_strictly():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2)})
    assert not load_into(model, STATE, "judge")["a"].weight.requires_grad
    with pytest.raises(ArtifactError, match="judge: weights do not fit the model: Missing key"):
        load_into(model, {"a.weight": STATE["a.weight"]}, "judge")
    with pytest.raises(ArtifactError, match="judge: weights do not fit the model: Unexpected key"):
        load_into(model, {**STATE, "b": torch.ones(1)}, "judge")


def test_keys_below_a_prefix_lose_it():
    assert list(under({"x.a": torch.ones(1), "y.a": torch.ones(1)}, "x.")) == ["a"]
