"""A run with pictures that people can vote on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from spin.vote.booth import Booth, open_booth
from tests.report.conftest import RunBuilder

Open = Callable[..., Booth]


@pytest.fixture
def built(tmp_path: Path) -> RunBuilder:
    builder = RunBuilder(tmp_path / "runs", stages=("base", "sft", "iteration-01"))
    builder.build()
    return builder


@pytest.fixture
def enter(built: RunBuilder) -> Open:
    """A booth of that run; sft against iteration-01 where no models are named."""

    def make(*, models: tuple[str, str] | None = None, prompts: int | None = None, voter: str = "anna") -> Booth:
        return open_booth(built.root, built.name, models=models, prompts=prompts, voter=voter)

    return make
