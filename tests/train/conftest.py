from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spin.core.layout import StageFolder
from spin.train.request import TrainRequest
from tests.world import World, copy_stage


@pytest.fixture
def make_request(world: World, sampled: StageFolder, tmp_path: Path) -> Callable[..., TrainRequest]:
    """A training request in a folder of its own for each name."""

    def make(name: str = "one", *, settings: dict[str, Any] | None = None, **changes: Any) -> TrainRequest:
        folder = tmp_path / name
        own = StageFolder(folder / sampled.name) if folder.exists() else copy_stage(sampled, folder)
        return world.train_request(own, settings=settings, **changes)

    return make
