"""Whether a config can be played with a model, told before anything is spent. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spin.core.buckets import Buckets
from spin.core.errors import ConfigError
from spin.diffusion.families.facts import facts_of, picture_size
from spin.diffusion.families.registry import family_of, read_configs, vae_factor

FLOW_SOLVERS: Final = ("euler", "dpmsolver++", "unipc")  # deis of diffusers 0.42 stops before the flow's end


def refuse_misfit(
    folder: Path,
    *,
    trajectory: str,
    timestep_weight: str,
    solvers: Mapping[str, str],
    resolution: int | None,
    bucket_step: int | None,
    bucket_ratio: float,
    reuse_every: int = 1,
) -> None:
    """ConfigError where the model cannot do what the config asks.

    Args:
        trajectory, timestep_weight, resolution, bucket_ratio, reuse_every: as the config's keys of these names.
        bucket_step: None where there are no buckets.
        solvers: by the key that names each.
    """
    side = picture_size(folder, resolution=resolution)
    if bucket_step is not None:
        _refuse_buckets(folder, Buckets(side, bucket_step, bucket_ratio))
    if reuse_every > 1:
        _refuse_reuse(folder)
    facts = facts_of(folder)
    if trajectory == "reverse" and facts.prediction != "epsilon":  # Eq. (C.5) compares two predictions of the noise
        raise ConfigError(
            f"the model predicts {facts.prediction}, a reverse trajectory needs epsilon", where="train.trajectory",
            fix="set it to forward",
        )  # fmt: skip
    if facts.prediction != "flow":
        return
    if timestep_weight == "h2":
        raise ConfigError("the model is a flow, h2 is none of it", where="train.timestep_weight", fix="set constant")
    for key, name in solvers.items():
        if name not in FLOW_SOLVERS:
            raise ConfigError(
                f"{name} cannot follow a flow", where=key, fix=f"set it to one of {', '.join(FLOW_SOLVERS)}"
            )


def _refuse_reuse(folder: Path) -> None:
    """Only a UNet has outer blocks that go on without the inner ones."""
    family = family_of(folder)
    fix = "set it to 1"
    if family.denoiser_class != "UNet2DConditionModel":
        problem = f"the model's {family.denoiser} is no UNet, it has no deep blocks to leave out"
        raise ConfigError(problem, where="sampling.reuse_every", fix=fix)
    if len(read_configs(folder)[family.denoiser]["up_block_types"]) == 1:
        raise ConfigError("the model's unet has one level and no deeper one", where="sampling.reuse_every", fix=fix)


def _refuse_buckets(folder: Path, buckets: Buckets) -> None:
    """Sides must be whole patches of the network, no more of them than it has places for; and not all squares."""
    family, configs = family_of(folder), read_configs(folder)
    denoiser = configs[family.denoiser]
    patch = vae_factor(configs) * (denoiser["patch_size"] if family.position_grid else 1)
    fitting = [step for step in range(patch, buckets.side, patch) if buckets.side % step == 0 and step % 8 == 0]
    if buckets.step not in fitting:
        raise ConfigError(
            f"{buckets.step} does not divide the model's own {buckets.side} pixels into patches of {patch}",
            where="data.bucket_step", fix=f"set it to one of {', '.join(map(str, fitting))}",
        )  # fmt: skip
    if len(buckets.sizes) == 1:
        raise ConfigError(
            f"{buckets.ratio} leaves the square alone in steps of {buckets.step}",
            where="data.bucket_ratio", fix="raise it, or lower data.bucket_step, or set data.aspect_ratio to square",
        )  # fmt: skip
    longest = max(max(size) for size in buckets.sizes) // patch
    if family.position_grid and longest > denoiser[family.position_grid]:
        raise ConfigError(
            f"{buckets.ratio} gives sides of {longest} patches, the model has places for "
            f"{denoiser[family.position_grid]}",
            where="data.bucket_ratio", fix="set a lower one",
        )  # fmt: skip
