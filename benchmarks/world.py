"""Data and a model to measure with: pictures of noise with captions, prepared as a run prepares them."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.models import make_model
from benchmarks.profiles import Profile
from spin.core.layout import RealCache, StageFolder
from spin.core.planning import write_plan
from spin.core.schema import read_table
from spin.diffusion.digest import model_digest
from spin.diffusion.families.facts import picture_size
from spin.diffusion.skeleton import Skeleton
from spin.prepare.request import PrepareRequest
from spin.prepare.room import run as prepare
from spin.sample.request import SampleRequest
from spin.train.request import TrainingSettings, TrainRequest


@dataclass(frozen=True)
class World:
    """Where everything stands."""

    folder: Path
    profile: Profile
    base: Path
    digest: str
    prompts: Path
    cache: RealCache

    @classmethod
    def make(cls, folder: Path, profile: Profile) -> World:
        base = make_model(profile.model, folder / profile.model)
        digest = model_digest(base)
        side, data = picture_size(base, resolution=None), folder / "data"
        _write_pictures(data, rows=profile.rows, side=side)
        prepared = prepare(
            PrepareRequest(
                runs_root=folder, run="world", source="parquet", path=data, image_column="image",
                caption_column="text", loser_column="loser", losers=True, target="winners", rows=None,
                held_out_share=0.1, max_bad_share=0.0, max_image_pixels=2**26, resolution=None, base=base,
                base_digest=digest, seed=0, device=profile.device, threads=torch.get_num_threads(),
            )
        )  # fmt: skip
        return cls(folder, profile, base, digest, prepared.prompts, RealCache(prepared.real))

    @property
    def skeleton(self) -> Skeleton:
        return Skeleton.of(self.base)

    @property
    def captions(self) -> dict[str, str]:
        """By prompt hash."""
        table = read_table(self.prompts)
        return dict(zip(table["prompt_hash"].to_pylist(), table["caption"].to_pylist(), strict=True))

    def stage(self, name: str, *, images: int) -> StageFolder:
        """A planned iteration of one shard, the same plan in any folder."""
        stage = StageFolder(self.folder / name / "iteration-01")
        write_plan(
            stage, prompts=self.prompts, reads=images, draws=1, shard_size=images, batch_size=self.profile.batch,
            run_seed=0, config_hash="benchmark", code_version="1", parent_digest=self.digest,
        )  # fmt: skip
        return stage

    def sample_request(self, stage: StageFolder, **changes: object) -> SampleRequest:
        request = SampleRequest(
            stage=stage.path, shards=(0,), opponent=self.base, opponent_digest=self.digest, text=self.cache.text,
            guidance_scale=GUIDANCE, num_inference_steps=20, batch_size=self.profile.batch, loser_source="latents",
            store_images=False, compile=self.profile.compile, device=self.profile.device,
            dtype=self.profile.dtypes[-1], threads=torch.get_num_threads(),
        )  # fmt: skip
        return replace(request, **changes)  # type: ignore[arg-type]

    def train_request(self, name: str, **changes: object) -> TrainRequest:
        """Against the labelled losers, as the baseline is: the work is that of self-play."""
        settings = TrainingSettings(
            objective="spin", steps=10_000, batch_size=self.profile.step, lr=1e-8,
            micro_batch_size=self.profile.pairs[-1], warmup_steps=0, lr_schedule="constant", weight_decay=0.01,
            adam_beta1=0.9, adam_beta2=0.999,
            adam_epsilon=1e-8, max_grad_norm=1.0, caption_dropout=0.0, flip=False, posterior_sample=True,
            ema_decay=None, gradient_checkpointing=False, state_every_steps=100_000, held_out_every_steps=100_000,
            beta=2000.0,
        )  # fmt: skip
        asked = {key: changes.pop(key) for key in list(changes) if hasattr(settings, key)}
        request = TrainRequest(
            stage=self.folder / name / "iteration-01", start=self.base, start_digest=self.digest,
            prompts=self.prompts, real=self.cache.latents, text=self.cache.text, losers=self.cache.losers, draws=1,
            run_seed=0, settings=replace(settings, **asked), device=self.profile.device,
            dtype=self.profile.dtypes[-1], threads=torch.get_num_threads(),
        )  # fmt: skip
        return replace(request, **changes)  # type: ignore[arg-type]


GUIDANCE = 7.5  # as the paper samples, and as pipelines do where nothing is said


def pictures(count: int, side: int, *, seed: int) -> list[bytes]:
    """PNG files of smooth noise."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def _write_pictures(folder: Path, *, rows: int, side: int) -> None:
    file = folder / "data.parquet"
    if file.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "image": pictures(rows, side, seed=0),
            "loser": pictures(rows, side, seed=1),
            "text": [f"picture {number} of a thousand, in the morning" for number in range(rows)],
        }
    )
    pq.write_table(table, file)
