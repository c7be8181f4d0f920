from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spin.core.errors import ConfigError
from spin.diffusion.families.fitting import FLOW_SOLVERS, refuse_misfit
from spin.diffusion.solvers import load_solver
from tests.families import change


def fit(folder: Path, **changes: Any) -> None:
    asked: dict[str, Any] = {
        "trajectory": "forward", "timestep_weight": "constant", "solvers": {"sampling.scheduler": "dpmsolver++"},
        "resolution": None, "bucket_step": None, "bucket_ratio": 2.0,
    }  # fmt: skip
    refuse_misfit(folder, **{**asked, **changes})


@pytest.mark.parametrize("kind", ["sd-v", "sd3"])
def test_what_every_family_can_do_is_taken(folder_of: Callable[[str], Path], kind: str) -> None:
    fit(folder_of(kind))
    fit(folder_of(kind), resolution=64)
    fit(folder_of(kind), bucket_step=16, bucket_ratio=2.0)


@pytest.mark.parametrize(
    ("kind", "asked", "line"),
    [
        ("sd-v", {"resolution": 512}, "data.resolution: 512 is not the model's own 64; set it to null"),
        ("sd-v", {"trajectory": "reverse"}, "train.trajectory: the model predicts v_prediction, a reverse"),
        ("sd3", {"trajectory": "reverse"}, "train.trajectory: the model predicts flow, a reverse"),
        ("sd3", {"timestep_weight": "h2"}, "train.timestep_weight: the model is a flow, h2 is none of it"),
        (
            "sd-v",
            {"bucket_step": 24},
            r"data\.bucket_step: 24 does not divide the model's own 64 pixels into patches of 8; set it to one of 8, ",
        ),
        ("sd-v", {"bucket_step": 64}, r"data\.bucket_step: 64 does not divide"),
        ("sd-v", {"bucket_step": 32}, r"data\.bucket_ratio: 2\.0 leaves the square alone in steps of 32; raise it, or"),
        ("sd3", {"bucket_step": 8}, r"64 pixels into patches of 16; set it to one of 16, 32"),
        (
            "sd3",
            {"bucket_step": 16, "bucket_ratio": 9.0},
            r"data\.bucket_ratio: 9\.0 gives sides of 9 patches, "
            r"the model has places for 8; set a lower one",
        ),
        (
            "sd3",
            {"reuse_every": 2},
            "sampling.reuse_every: the model's transformer is no UNet, it has no deep blocks to leave out; set it to 1",
        ),
        ("sd3", {"solvers": {"evaluation.scheduler": "pndm"}}, "evaluation.scheduler: pndm cannot follow a flow"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(
    folder_of: Callable[[str], Path], kind: str, asked: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigError, match=line):
        fit(folder_of(kind), **asked)


@pytest.mark.parametrize("kind", ["sd-v", "sdxl"])
def test_a_unet_has_deep_features_where_it_has_two_levels(
    folder_of: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    fit(folder_of(kind), reuse_every=3)
    flat = shutil.copytree(folder_of(kind), tmp_path / "flat")
    change(flat / "unet" / "config.json", up_block_types=["UpBlock2D"])
    with pytest.raises(ConfigError, match=r"sampling\.reuse_every: the model's unet has one level and no deeper one"):
        fit(flat, reuse_every=2)


@pytest.mark.parametrize("name", FLOW_SOLVERS)
def test_every_solver_that_a_flow_is_said_to_take_is_there(folder_of: Callable[[str], Path], name: str) -> None:
    solver = load_solver(folder_of("sd3"), name)
    solver.set_timesteps(4)
    assert len(solver.timesteps) == 4
    assert solver.sigmas[0] > 0.9
