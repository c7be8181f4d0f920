"""Solvers of diffusers by name, each on the model's own noise schedule.

Those of Karras et al. (arXiv 2206.00364) step through noise levels of their Eq. (5), rho 7, instead of evenly spaced
times; `edm` is Heun's method over them, their Algorithm 1 without churn.
"""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from spin.diffusion.families.registry import family_of

Solvers = Mapping[str, tuple[Any, dict[str, Any]]]

_MULTISTEP: Final[Solvers] = {
    "dpmsolver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {"solver_type": "bh2"}),
    "deis": (DEISMultistepScheduler, {"algorithm_type": "deis", "solver_type": "logrho"}),
}
_DIFFUSION: Final[Solvers] = {
    **_MULTISTEP,
    "euler": (EulerDiscreteScheduler, {}),
    "dpmsolver++karras": (
        DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True},
    ),
    "eulerkarras": (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "edm": (HeunDiscreteScheduler, {"use_karras_sigmas": True, "clip_sample": False}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),  # as every Stable Diffusion pipeline sets it
    # DDIM steps by T // S whatever the spacing: only evenly spaced timesteps name the places that it comes to.
    "ddim": (
        DDIMScheduler,
        {"clip_sample": False, "set_alpha_to_one": False, "timestep_spacing": "leading", "steps_offset": 1},
    ),
}


def load_solver(folder: Path, name: str = "dpmsolver++") -> Any:
    """A solver by name; dpmsolver++ is DPM-Solver++ (2M), euler the flow families' own."""
    if family_of(folder).flow:
        return _flow_solver(folder, name)
    kind, settings = _DIFFUSION[name]
    return kind.from_pretrained(folder, subfolder="scheduler", **settings)


def _flow_solver(folder: Path, name: str) -> Any:
    own = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    if name == "euler":
        return own
    kind, settings = _MULTISTEP[name]
    return kind(
        num_train_timesteps=own.config.num_train_timesteps, prediction_type="flow_prediction", use_flow_sigmas=True,
        flow_shift=own.config.shift, **settings,
    )  # fmt: skip
