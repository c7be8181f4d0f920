"""Every path of a run, spelled once. Numbers are zero-padded, so names sort in the order of time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spin.core.layout_beside import ComparisonFolder, PromptSetFolder


@dataclass(frozen=True)
class RunsRoot:
    """The folder that holds every run, and what runs share: encoded images, prompt sets and evaluations."""

    path: Path

    def run(self, name: str) -> RunFolder:
        return RunFolder(self, self.path / name)

    def real_cache(self, data_digest: str, model_digest: str) -> RealCache:
        return RealCache(self.path / "cache" / "real" / f"{data_digest[:16]}-{model_digest[:16]}")

    @property
    def errors(self) -> Path:
        """Opponents' denoising errors on all that a stage reads, shared by the runs of a sweep."""
        return self.path / "cache" / "errors"

    def evaluation(self, subject_digest: str, benchmark: str, protocol: str, config_hash: str) -> EvaluationFolder:
        return EvaluationFolder(
            self.path / "evaluations" / subject_digest[:16] / f"{benchmark}.{protocol}.{config_hash}"
        )

    def source(self, name: str, digest: str) -> SourceFolder:
        """Data of others, copied here once."""
        return SourceFolder(self._sources / f"{name}-{digest[:16]}")

    def sources(self, name: str) -> list[SourceFolder]:
        """All copies of one name."""
        return [SourceFolder(path) for path in sorted(self._sources.glob(f"{name}-*"))]

    @property
    def _sources(self) -> Path:
        return self.path / "cache" / "source"

    @property
    def prompt_sets(self) -> Path:
        return self.path / "cache" / "prompts"

    def prompt_set(self, name: str, digest: str) -> PromptSetFolder:
        return PromptSetFolder(self.prompt_sets / f"{name}-{digest[:16]}")

    def comparison(self, name: str) -> ComparisonFolder:
        return ComparisonFolder(self.path / name)

    @property
    def nights(self) -> Path:
        """History of the nightly evaluations of all runs; among the evaluations, where no run can have its name."""
        return self.path / "evaluations" / "nights.parquet"

    @property
    def prefect_home(self) -> Path:
        return self.path / ".prefect"


@dataclass(frozen=True)
class RunFolder:
    root: RunsRoot
    path: Path

    @property
    def record(self) -> Path:
        """Resolved config, versions and hashes of the run."""
        return self.path / "run.json"

    @property
    def prompts(self) -> Path:
        return self.path / "data" / "prompts.parquet"

    @property
    def quarantine(self) -> Path:
        return self.path / "data" / "quarantine.parquet"

    @property
    def prepared(self) -> Path:
        """What the prepare room answered, for flows on other machines."""
        return self.path / "data" / "prepared.json"

    @property
    def report(self) -> Path:
        return self.path / "report" / "index.html"

    @property
    def metrics(self) -> Path:
        return self.path / "report" / "metrics.parquet"

    @property
    def contact_sheet(self) -> Path:
        """A few prompts by models, small enough to travel inside a text."""
        return self.path / "report" / "contact-sheet.png"

    @property
    def votes(self) -> Path:
        """What people voted, one small file for each vote."""
        return self.path / "votes"

    def vote(self, voter: str, ballot: str, pair: str) -> Path:
        return self.votes / voter / ballot / f"vote-{pair}.parquet"

    def iteration(self, number: int) -> StageFolder:
        return StageFolder(self.path / iteration_name(number))

    @property
    def sft(self) -> StageFolder:
        """The optional supervised stage before iteration 1."""
        return StageFolder(self.path / "sft")


@dataclass(frozen=True)
class StageFolder:
    """One training stage: an iteration, or the SFT stage."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def number(self) -> int | None:
        """The iteration's number; None for other stages."""
        found = re.fullmatch(r"iteration-(\d{2,})", self.name)
        return int(found[1]) if found else None

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def plan_rows(self) -> Path:
        return self.path / "plan.parquet"

    def samples(self, shard: int) -> Path:
        return self.path / "samples" / f"{shard_name(shard)}.parquet"

    def checkpoint(self, step: int) -> Path:
        return self.path / "checkpoints" / step_name(step)

    def adapter(self, step: int) -> Path:
        """The LoRA adapter that was merged into a checkpoint; there only where one trained."""
        return adapter_of(self.checkpoint(step))

    def training_artifacts(self, steps: int, *, adapter: bool) -> tuple[Path, ...]:
        """What a finished training leaves, the checkpoint last; `adapter` where a LoRA adapter trained."""
        adapters = (self.adapter(steps),) if adapter else ()
        return (self.training_log, self.held_out_log, *adapters, self.checkpoint(steps))

    @property
    def opponent(self) -> Path:
        """The averaged opponent of this iteration; there only where the run has such ones."""
        return self.path / "opponent"

    @property
    def states(self) -> Path:
        return self.path / "train" / "state"

    def state(self, step: int) -> Path:
        return self.states / step_name(step)

    @property
    def training_log(self) -> Path:
        return self.path / "train" / "log.parquet"

    @property
    def timing(self) -> Path:
        """Seconds per step, apart from the log: equal runs have equal logs."""
        return self.path / "train" / "timing.parquet"

    @property
    def trackers(self) -> Path:
        """What experiment trackers write of this stage; a view of the logs, without a manifest."""
        return self.path.parent / "trackers" / self.name

    @property
    def held_out_log(self) -> Path:
        return self.path / "train" / "held_out.parquet"


@dataclass(frozen=True)
class RealCache:
    """Real images encoded once by one model, shared by runs."""

    path: Path

    @property
    def latents(self) -> Path:
        return self.path / "real.parquet"

    @property
    def text(self) -> Path:
        return self.path / "text.parquet"

    @property
    def losers(self) -> Path:
        """The dispreferred pictures of the train rows; there only where a run was trained on them."""
        return self.path / "losers.parquet"

    @property
    def held_out_images(self) -> Path:
        return self.path / "held-out.parquet"

    def files(self, *, losers: bool, flips: bool) -> tuple[Path, ...]:
        """What a run reads, the real latents first."""
        encoded = (self.latents, *((self.losers,) if losers else ()))
        mirrored = tuple(map(mirrored_path, encoded)) if flips else ()
        return self.latents, self.text, self.held_out_images, *encoded[1:], *mirrored


@dataclass(frozen=True)
class SourceFolder:
    """Data that lies elsewhere, copied once and shared by runs."""

    path: Path

    @property
    def files(self) -> Path:
        """Files as they are elsewhere."""
        return self.path / "files"

    @property
    def listing(self) -> Path:
        """Their names, versions and sizes there."""
        return self.path / "listing.json"

    def part(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.parquet"


@dataclass(frozen=True)
class EvaluationFolder:
    path: Path

    def images(self, shard: int) -> Path:
        return self.path / "images" / f"{shard_name(shard)}.parquet"

    def scores(self, shard: int) -> Path:
        return self.path / "scores" / f"{shard_name(shard)}.parquet"

    def quarantine(self, shard: int) -> Path:
        """Pictures of a shard that cannot be judged, with their reasons."""
        return self.path / "quarantine" / f"{shard_name(shard)}.parquet"

    def safety(self, shard: int) -> Path:
        """What a safety checker said of a shard's pictures; there only where one looked."""
        return self.path / "safety" / f"{shard_name(shard)}.parquet"

    def latents(self, shard: int) -> Path:
        """What a shard's pictures were decoded from; there only where it was asked for."""
        return self.path / "latents" / f"{shard_name(shard)}.parquet"

    def denoising(self, shard: int) -> Path:
        """Held-out denoising error of every fixed (image, t, noise) draw."""
        return self.path / "denoising" / f"{shard_name(shard)}.parquet"

    @property
    def set_metrics(self) -> Path:
        """Numbers of the whole set of images: Frechet distance."""
        return self.path / "set-metrics.parquet"

    @property
    def benchmark(self) -> str:
        """Name of the benchmark, as the folder's name has it."""
        return self.path.name.rsplit(".", 2)[0]

    @property
    def protocol(self) -> str:
        return self.path.name.rsplit(".", 2)[1]

    def artifacts(self, shards: int, *, measured: bool) -> Iterator[Path]:
        """Every file of a finished evaluation; `measured` where a model's held-out error is part of it."""
        parts = (self.images, self.quarantine, self.scores, *((self.denoising,) if measured else ()))
        for make in parts:
            yield from (make(shard) for shard in range(shards))
        yield self.set_metrics


def mirrored_path(latents: Path) -> Path:
    """The mirrored pictures of a file of latents, encoded; there only where a run trains on flips."""
    return latents.with_name(f"{latents.stem}-mirrored{latents.suffix}")


def iteration_name(number: int) -> str:
    return f"iteration-{number:02d}"


def shard_name(index: int) -> str:
    return f"shard-{index:05d}"


def step_name(step: int) -> str:
    return f"step-{step:06d}"


def adapter_of(checkpoint: Path) -> Path:
    """adapters/step-000050 for checkpoints/step-000050: what the stage added to the model that it began with."""
    return checkpoint.parent.parent / "adapters" / checkpoint.name


def manifest_path(artifact: Path) -> Path:
    """The manifest stands beside its artifact, so that a checkpoint folder stays a plain diffusers folder."""
    return artifact.with_name(f"{artifact.name}.manifest.json")


def stamp_path(artifact: Path) -> Path:
    """Beside the manifest: which bytes were hashed and found right, see `spin.core.stamps`."""
    return artifact.with_name(f".{artifact.name}.verified")
