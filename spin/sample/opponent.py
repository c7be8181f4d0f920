"""The resident opponent: loaded once, whatever the number of shards and of calls."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from spin.core.schema import SIZES
from spin.core.store import read_manifest
from spin.diffusion.attention import attending
from spin.diffusion.checkpoint import load_denoiser, load_vae, verify_checkpoint
from spin.diffusion.compiling import CompiledNetwork
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.families.facts import facts_of
from spin.diffusion.families.registry import family_of, read_configs, vae_factor
from spin.diffusion.noise import initial_noise
from spin.diffusion.safety import Checker, resident_checker
from spin.diffusion.sampler import decode_unit, encode_images, sample_latents, to_bytes
from spin.diffusion.solvers import load_solver
from spin.diffusion.text import TextEmbeddings
from spin.diffusion.transfer import to_device
from spin.sample.drawn import Drawn, finite_rows
from spin.sample.request import SampleRequest

Row = Mapping[str, Any]  # of a plan


@dataclass(frozen=True)
class Opponent:
    """A model ready to draw; `vae` only where pictures are needed."""

    network: CompiledNetwork
    denoiser: Denoiser
    shape: tuple[int, int, int]  # of one picture's latents, (C, h, w), at the model's own size
    factor: int  # pixels for one of its latents, each way
    solver: Any  # of diffusers
    vae: AutoencoderKL | None
    text: TextEmbeddings
    checker: Checker | None = None

    @classmethod
    def load(cls, request: SampleRequest) -> Opponent:
        verify_checkpoint(request.opponent)
        network = CompiledNetwork(
            load_denoiser(request.opponent, device=request.device, dtype=request.dtype), enabled=request.compile
        )
        vae = _load_vae(request) if _needs_vae(request) else None
        text = TextEmbeddings.read(request.text, device=request.device, dtype=request.dtype)
        denoiser = Denoiser(network, family_of(request.opponent))
        solver = load_solver(request.opponent, request.scheduler)
        checker = None if request.safety is None else resident_checker(request.safety, request.device)
        shape, factor = facts_of(request.opponent).latent_shape, vae_factor(read_configs(request.opponent))
        return cls(network, denoiser, shape, factor, solver, vae, text, checker)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.network.notes

    def shape_of(self, row: Row) -> tuple[int, int, int]:
        """(C, h, w) of a row's latents: at the model's own size, or at the bucket's."""
        if SIZES[0].name not in row:
            return self.shape
        height, width = (int(row[field.name]) // self.factor for field in SIZES)
        return self.shape[0], height, width

    def area_of(self, row: Row) -> int | None:
        """Of the largest latents, where a plan has rows of several sizes as this one; else None."""
        return self.shape[1] * self.shape[2] if SIZES[0].name in row else None

    def draw(self, rows: Sequence[Row], request: SampleRequest) -> Drawn:
        """One batch of the plan's rows. All of it has one shape, so no bit depends on the split into shards."""
        given = self.text.of([row["prompt_hash"] for row in rows])
        states: list[Tensor] = []
        times: list[int] = []

        def hear(timestep: Tensor, state: Tensor) -> None:
            states.append(state.float())
            times.append(int(timestep))

        noise = initial_noise([row["seed"] for row in rows], self.shape_of(rows[0]))
        with attending(request.attention, device=request.device, dtype=request.dtype):
            latents = sample_latents(
                self.denoiser,
                self.solver,
                noise=to_device(noise, given.device, given.dtype),
                given=given,
                unconditional=self.text.empty,
                guidance_scale=request.guidance_scale,
                num_inference_steps=request.num_inference_steps,
                heard=hear if request.store_trajectory else None,
                approximation=request.approximation,
            ).float()
        drawn = self._with_pictures(latents, request)
        if not request.store_trajectory:
            return drawn
        timesteps = torch.tensor(times, dtype=torch.int32).expand(len(rows), -1)
        return replace(drawn, trajectory=torch.stack(states, dim=1), timesteps=timesteps)

    def _with_pictures(self, latents: Tensor, request: SampleRequest) -> Drawn:
        finite = {"latents": finite_rows(latents)}
        if self.vae is None:
            return Drawn(latents, finite=finite)
        unit = decode_unit(self.vae, latents)
        finite["pictures"] = finite_rows(unit)  # as bytes they would be black
        pictures = to_bytes(unit)
        kept = pictures if request.store_images else None
        unsafe = None if self.checker is None else torch.tensor(self.checker.unsafe(pictures.numpy()))
        if request.loser_source == "latents":
            return Drawn(latents, kept, unsafe=unsafe, finite=finite)
        sides = (pictures, pictures.flip(2)) if request.store_mirrored else (pictures,)
        encoded = [part for side in sides for part in encode_images(self.vae, side)]
        finite["posteriors"] = finite_rows(torch.cat(encoded, dim=1))
        return replace(Drawn(latents, kept, *encoded), unsafe=unsafe, finite=finite)


_resident: dict[tuple[object, ...], Opponent] = {}  # one slot: shards come in calls of their own


def resident_opponent(request: SampleRequest) -> tuple[Opponent, bool]:
    """The opponent of the last call where it is the same one, else loaded in its place; and whether it was loaded."""
    key = _key(request)
    loads = key not in _resident
    if loads:
        _resident.clear()  # before loading: two models need not fit in memory
        _resident[key] = Opponent.load(request)
    return _resident[key], loads


def _key(request: SampleRequest) -> tuple[object, ...]:
    """All that loading depends on."""
    text = read_manifest(request.text)
    return (
        request.opponent, request.opponent_digest, request.device, request.dtype, request.compile,
        request.attention, request.scheduler, _needs_vae(request), request.safety, request.text,
        None if text is None else text.content_digest,
    )  # fmt: skip


def _load_vae(request: SampleRequest) -> AutoencoderKL:
    encodes = request.loser_source == "roundtrip"
    return load_vae(request.opponent, device=request.device, dtype=request.dtype, encodes=encodes)


def _needs_vae(request: SampleRequest) -> bool:
    return request.store_images or request.loser_source == "roundtrip" or request.safety is not None
