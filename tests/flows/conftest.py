"""One tiny real run through a real Prefect server, shared by the tests of the hall."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.environment import prepare_environment
from spin.core.config import Config, load_config

# Prefect keeps its history under a temporary folder; its server starts once for the session. Set here, and not in a
# fixture: test modules import Prefect, which then reads its settings.
_PREFECT = tempfile.TemporaryDirectory(prefix="spin-prefect-")
prepare_environment(Path(_PREFECT.name))
del os.environ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]  # each flow would wait up to 1 s for the end of its heart's thread

TINY = (
    "data.rows=24", "iterations=2", "sft.steps=3", "sft.batch_size=4", "train.steps=3", "train.batch_size=8",
    "train.micro_batch_size=8", "sampling.num_inference_steps=2", "sampling.batch_size=4", "sampling.shard_size=8",
    "evaluation.num_inference_steps=2", "evaluation.prompts=8", "evaluation.shard_size=5",
    "evaluation.denoising_draws=1", "evaluation.diversity_prompts=0", "execution.report_page=false",
)  # fmt: skip


@dataclass(frozen=True)
class Played:
    """A finished run: its runs root, its config, and what the first call did."""

    root: Path
    config: Config
    totals: str


def tiny(root: Path, *more: str) -> Config:
    return load_config("miniature", overrides=[*TINY, "run.name=tiny", f"run.root={root}", *more])


def play(config: Config) -> str:
    """Run a config; what was done, in words."""
    from flows.spin_diffusion import spin_diffusion
    from spin.core.config_identity import config_to_json

    return str(spin_diffusion(config=config_to_json(config)).totals)


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    root = tmp_path_factory.mktemp("runs") / "runs"
    config = tiny(root, "execution.report_page=true")
    return Played(root, config, play(config))


@pytest.fixture
def copy(played: Played, tmp_path: Path) -> Callable[[], Played]:
    """A copy of the finished run that a test may damage."""

    def make() -> Played:
        root = tmp_path / "runs"
        shutil.copytree(played.root, root, ignore=shutil.ignore_patterns(".prefect"))
        return Played(root, tiny(root), played.totals)

    return make
