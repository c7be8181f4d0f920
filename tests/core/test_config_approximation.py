"""Settings of what sampling may leave out, and what is refused of them."""

from __future__ import annotations

import pytest

from spin.core.approximation import EXACT, Approximation
from spin.core.config import load_config
from spin.core.config_explain import explain
from spin.core.config_identity import config_hash
from spin.core.errors import ConfigError


def load(*overrides: str) -> Approximation:
    return load_config("miniature", overrides=list(overrides)).sampling.approximation


def test_sampling_is_exact_by_default() -> None:
    assert load() == EXACT


def test_what_is_set_is_what_the_rooms_are_told() -> None:
    found = load("sampling.guidance_scale=2", "sampling.guidance_interval=[0, 0.8]", "sampling.reuse_every=3")
    assert found == Approximation((0, 0.8), 3)


def test_the_whole_way_is_exact_and_the_same_run() -> None:
    found, exact = (
        load_config("miniature", overrides=["sampling.guidance_scale=2", f"sampling.guidance_interval={interval}"])
        for interval in ("[0, 1]", "null")
    )
    assert found.sampling.approximation == EXACT
    assert config_hash(found) == config_hash(exact)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("guidance_interval=[0.8,0.2]",), r"expected \[FROM, TO\] with FROM below TO; got \[0.8, 0.2\]"),
        (("guidance_interval=[0.5,0.5]",), "FROM below TO"),
        (("guidance_interval=[0.1,2]",), "must be at most 1, got 2"),
        (("guidance_interval=[-0.1,1]",), "must be at least 0, got -0.1"),
        (("guidance_interval=0.3",), "expected a list, got 0.3"),
        (("guidance_interval=[0.3]",), r"guidance_interval\[1\]: "),
        (("guidance_interval=[0,0.02]",), r"sampling\.guidance_interval.*holds none of the 20 calls of the network"),
        (("guidance_interval=[0.51,0.52]", "scheduler=edm", "num_inference_steps=10"), "none of the 19 calls"),
        (("reuse_every=0",), "must be at least 1, got 0"),
        (("guidance_scale=1", "guidance_interval=[0.2,0.8]"), "has no use with sampling.guidance_scale 1"),
        (("reuse_every=2", "compile=true"), "blocks that sampling.compile has made one graph with the others"),
    ],
)
def test_what_cannot_be_is_refused(overrides: tuple[str, ...], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        load("sampling.guidance_scale=2", *(f"sampling.{each}" for each in overrides))


def test_an_interval_is_explained_as_two_numbers() -> None:
    assert explain("sampling.guidance_interval").type == "list of 2 numbers or null"
