"""Opens and writes model folders. A checkpoint is what `DiffusionPipeline.from_pretrained` opens."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from safetensors import SafetensorError

from spin.core.draft import link_or_copy
from spin.core.environment import channels_last
from spin.core.errors import ArtifactError
from spin.core.store import read_manifest, verify
from spin.diffusion.families.registry import components, family_of
from spin.diffusion.schedules import Diffusion, Flow, Law, Schedule

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LEFT_OUT = ("safety_checker",)  # judges pictures, is none of the model's; 1.2 GB with each checkpoint


def load_denoiser(folder: Path, *, device: str, dtype: str = "float32") -> Any:
    """The network that trains, frozen and in evaluation mode: a UNet or a transformer of diffusers."""
    family = family_of(folder)
    return _load(getattr(diffusers, family.denoiser_class), folder, family.denoiser, device, dtype)


def without_weights(kind: Any, folder: Path, part: str) -> Any:
    """A network of diffusers as its config says, on the meta device: shapes and no memory."""
    with torch.device("meta"):
        return kind.from_config(kind.load_config(folder, subfolder=part))


def denoiser_without_weights(folder: Path) -> Any:
    """The network that trains, in its shapes alone."""
    family = family_of(folder)
    return without_weights(getattr(diffusers, family.denoiser_class), folder, family.denoiser)


def load_vae(folder: Path, *, device: str, dtype: str = "float32", encodes: bool = False) -> AutoencoderKL:
    """The autoencoder, in the precision that it bears.

    Args:
        encodes: losers that a model draws, which stand beside real pictures.
    """
    return _load(AutoencoderKL, folder, "vae", device, vae_dtype(folder, dtype, encodes=encodes))


def vae_dtype(folder: Path, dtype: str, *, encodes: bool) -> str:
    """The precision of the VAE in a run of `dtype`: the same, but for two reasons.

    Real pictures are encoded in float32: losers that are encoded in another precision could be told by its trace.
    And where the config says that it overflows in float16 (SDXL's), it is float32.
    """
    forced = dtype == "float16" and AutoencoderKL.load_config(folder, subfolder="vae").get("force_upcast", True)
    return "float32" if forced or encodes else dtype


def latent_scaling(folder: Path) -> tuple[float, float]:
    """Scale and shift of the model's latent space, from the VAE's config: latent = (sample - shift) * scale."""
    config = AutoencoderKL.load_config(folder, subfolder="vae")
    return config.get("scaling_factor", 0.18215), config.get("shift_factor") or 0.0


def load_schedule(folder: Path, device: str, *, law: Law = "model") -> Schedule:
    """The noise schedule that the model was trained on.

    Args:
        law: how training draws its times: as the family's own training does, or uniformly.
    """
    if family_of(folder).flow:
        return _flow(folder, device, law)
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    return Diffusion(scheduler.alphas_cumprod.to(device), scheduler.config.prediction_type)


def verify_checkpoint(folder: Path) -> None:
    """Hash a checkpoint of ours before it is read; a user's base has no manifest to hold it against."""
    if read_manifest(folder) is not None:
        verify(folder)


def write_checkpoint(target: Path, *, base: Path, denoiser: Any) -> None:
    """Write a pipeline folder: the denoiser anew, the other components as they are.

    They are hard-linked between our own checkpoints and copied from a base: that is the user's to change.
    """
    ours, part = read_manifest(base) is not None, family_of(base).denoiser
    kept = [name for name in components(base) if name not in (part, *_LEFT_OUT)]
    for source in sorted(p for name in kept for p in (base / name).rglob("*") if p.is_file()):
        link_or_copy(source.resolve(), target / source.relative_to(base), link=ours)
    _write_index(target, base, [*kept, part])
    denoiser.save_pretrained(target / part, safe_serialization=True)
    # save_pretrained notes the folder it was loaded from; equal weights must give equal files.
    (target / part / "config.json").write_bytes((base / part / "config.json").read_bytes())


def _write_index(target: Path, base: Path, kept: Sequence[str]) -> None:
    """model_index.json without the components that are not there, such as a safety checker's weights."""
    index = json.loads((base / "model_index.json").read_text("utf-8"))
    for name, value in index.items():
        if isinstance(value, list) and name not in kept:
            index[name] = [None, None]
    if "safety_checker" in index:
        index["requires_safety_checker"] = False
    index.pop("_name_or_path", None)  # a place on this machine, not a part of the model
    (target / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")


def _flow(folder: Path, device: str, law: Law) -> Flow:
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    return Flow(scheduler.sigmas[: len(scheduler.timesteps)].flip(0).to(device), law)


def _load(kind: Any, folder: Path, part: str, device: str, dtype: str) -> Any:
    try:
        model = kind.from_pretrained(folder, subfolder=part, dtype=DTYPES[dtype], use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"cannot load: {reason}", where=str(folder / part), fix="restore the model folder"
        ) from error
    model = model.to(device).eval().requires_grad_(False)
    if channels_last(dtype):
        model = model.to(memory_format=torch.channels_last)
    return model
