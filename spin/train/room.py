"""Real + generated + checkpoint k -> checkpoint k+1. The loop reads aloud; what it calls is next door."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import dataclasses
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor

from spin.core.environment import bit_class
from spin.core.errors import ArtifactError, TrainingError
from spin.core.layout import StageFolder
from spin.core.plan import Visit, visits
from spin.core.planning import read_plan
from spin.core.progress import Progress, silent
from spin.core.schema import HELD_OUT_LOG, TIMING, TRAINING_LOG, add_digests, write_rows
from spin.core.store import Manifest, commit, is_whole, read_manifest
from spin.diffusion.checkpoint import load_schedule, load_unet, load_vae, model_digest, write_checkpoint
from spin.diffusion.text import TextEmbeddings
from spin.train.health import health
from spin.train.held_out import HeldOut
from spin.train.pairs import read_pairs
from spin.train.request import TrainRequest, TrainResult
from spin.train.schedule import learning_rate
from spin.train.state import Tensors, load_newest_state, save_state
from spin.train.step import Measured, Step

_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def run(request: TrainRequest, *, progress: Progress = silent) -> TrainResult:
    """Train one stage to its last step, from the newest state if there is one."""
    torch.set_num_threads(request.threads)
    stage = StageFolder(request.stage)
    checkpoint = stage.checkpoint(request.settings.steps)
    identity = training_identity(request)
    if _stands(stage, checkpoint, identity):
        return _result(checkpoint, _manifest(checkpoint), steps=0, pairs=0, seconds=0.0)
    trainer = _Trainer(request, stage, identity)
    before = trainer.done.step
    start = time.perf_counter()
    for step in range(before + 1, request.settings.steps + 1):
        trainer.advance(step)
        progress(step, request.settings.steps, trainer.note())
    trainer.finish(checkpoint)
    steps = request.settings.steps - before
    return _result(
        checkpoint,
        _manifest(checkpoint),
        steps=steps,
        pairs=steps * request.settings.batch_size,
        seconds=time.perf_counter() - start,
        lines=health(trainer.done.log, trainer.done.held_out),
    )


def training_identity(request: TrainRequest) -> dict[str, Any]:
    """What the trained weights are a function of, besides the class of equal bits."""
    settings = dataclasses.asdict(request.settings)
    for cadence in ("state_every_steps", "held_out_every_steps"):
        settings.pop(cadence)
    identity = {
        "settings": settings,
        "start": request.start_digest,
        "prompts": _manifest(request.prompts).content_digest,
        "real": _manifest(request.real).content_digest,
        "text": _manifest(request.text).content_digest,
        "run_seed": request.run_seed,
        "draws": request.draws,
        "dtype": request.dtype,
    }
    if request.settings.objective == "spin":
        stage = StageFolder(request.stage)
        shards = range(read_plan(stage).shards)
        identity["samples"] = add_digests(_manifest(stage.samples(shard)).content_digest for shard in shards)
    return identity


class _Trainer:
    """The state of a running stage: networks, optimizer, log."""

    def __init__(self, request: TrainRequest, stage: StageFolder, identity: dict[str, Any]) -> None:
        self.request, self.stage, self.identity = request, stage, identity
        self.settings = request.settings
        AcceleratorState._reset_state(True)  # a process may train stages of different precision
        self.accelerator = Accelerator(
            cpu=request.device == "cpu",
            mixed_precision=_PRECISION[request.dtype],
        )
        policy = load_unet(request.start, device=request.device).requires_grad_(True).train()
        if self.settings.gradient_checkpointing:
            policy.enable_gradient_checkpointing()
        self.parameters = list(policy.parameters())
        optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self.settings.lr,
            betas=(self.settings.adam_beta1, self.settings.adam_beta2),
            eps=self.settings.adam_epsilon,
            weight_decay=self.settings.weight_decay,
        )
        average = EMAModel(self.parameters, decay=self.settings.ema_decay) if self.settings.ema_decay else None
        self.tensors = Tensors(policy, optimizer, average)
        self.done = load_newest_state(stage, self.tensors, identity)
        self.policy, self.optimizer = self.accelerator.prepare(policy, optimizer)
        self.step_of, self.held_out = self._prepare_data()
        self.upcoming = self._visits()
        if self.done.step == 0:
            self._measure_held_out(0)

    def advance(self, step: int) -> None:
        """One optimizer step: accumulate micro-batches, clip, update, log."""
        start = time.perf_counter()
        batch = list(islice(self.upcoming, self.settings.batch_size))
        lr = learning_rate(
            step, lr=self.settings.lr, warmup_steps=self.settings.warmup_steps, steps=self.settings.steps,
            lr_schedule=self.settings.lr_schedule,
        )  # fmt: skip
        for group in self.tensors.optimizer.param_groups:
            group["lr"] = lr
        parts = [self._accumulate(micro) for micro in _chunks(batch, self.settings.micro_batch_size)]
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        measured = _join(parts)
        self._refuse_nan(step, batch, measured, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.tensors.average is not None:
            self.tensors.average.step(self.parameters)
        self.done.step = step
        self.done.log.append(_log_row(step, measured, float(norm), lr))
        seconds = time.perf_counter() - start
        self.done.timing.append({"step": step, "seconds": seconds, "images_per_second": len(batch) / seconds})
        self._keep(step)

    def note(self) -> str:
        row = self.done.log[-1]
        text = f"loss {row['loss']:.4f}"
        return text if row["accuracy"] is None else f"{text}, accuracy {row['accuracy']:.2f}"

    def finish(self, checkpoint: Path) -> None:
        """Commit the logs, then the checkpoint: where it stands, all of the stage stands."""
        settings = self.settings
        if self.tensors.average is not None:
            self.tensors.average.copy_to(self.parameters)
        self._commit_rows(self.stage.training_log, TRAINING_LOG, self.done.log)
        self._commit_rows(self.stage.held_out_log, HELD_OUT_LOG, self.done.held_out)
        self._commit_rows(self.stage.training_log.with_name("timing.parquet"), TIMING, self.done.timing)
        commit(
            checkpoint,
            lambda folder: write_checkpoint(folder, base=self.request.start, unet=self.tensors.unet),
            kind="checkpoint",
            digest=model_digest,
            identity=self.identity,
            environment=lambda: {
                **bit_class(
                    device=self.request.device, dtype=self.request.dtype, batch_size=settings.micro_batch_size,
                    threads=self.request.threads,
                ),
                "steps": settings.steps,
                "images": settings.steps * settings.batch_size,
                "seconds": self.done.seconds,
            },
        )  # fmt: skip

    def _accumulate(self, micro: Sequence[Visit]) -> Measured:
        measured = self.step_of.measure(micro)
        self.accelerator.backward(measured.loss.sum() / self.settings.batch_size)
        return measured

    def _prepare_data(self) -> tuple[Step, HeldOut | None]:
        request, spin = self.request, self.settings.objective == "spin"
        vae = load_vae(request.start, device="cpu").config  # its weights are not needed
        scaling, shift = vae.scaling_factor, getattr(vae, "shift_factor", None) or 0.0
        pairs = read_pairs(
            request.prompts, request.real, samples=self.stage if spin else None, scaling=scaling, shift=shift
        )
        text = TextEmbeddings.read(request.text, device=request.device)
        schedule = load_schedule(request.start, request.device)
        opponent = load_unet(request.start, device=request.device) if spin else None
        if opponent is not None:
            opponent = self.accelerator.prepare_model(opponent, evaluation_mode=True)
        step = Step(
            policy=self.policy, opponent=opponent, pairs=pairs, text=text, schedule=schedule, settings=self.settings,
            run_seed=request.run_seed, stage=self.stage.name, device=request.device,
            autocast=self.accelerator.autocast,
        )  # fmt: skip
        held_out = HeldOut.read(request.prompts, request.real, text, schedule, scaling=scaling, shift=shift)
        return step, held_out

    def _visits(self) -> Iterator[Visit]:
        total = self.settings.steps * self.settings.batch_size
        found = visits(
            rows=len(self.step_of.pairs.sample_ids), count=total, draws=self.request.draws,
            run_seed=self.request.run_seed, stage=self.stage.name,
        )  # fmt: skip
        return islice(found, self.done.step * self.settings.batch_size, None)

    def _refuse_nan(self, step: int, batch: Sequence[Visit], measured: Measured, norm: Tensor) -> None:
        if torch.isfinite(norm) and bool(torch.isfinite(measured.loss).all()):
            return
        if self.done.step > 0:
            save_state(self.stage, self.tensors, self.done, self.identity)
        names = [self.step_of.pairs.sample_ids[visit.row] for visit in batch]
        broken = [n for n, ok in zip(names, torch.isfinite(measured.loss).tolist(), strict=True) if not ok]
        raise TrainingError(
            f"loss or gradient is not finite at step {step}; samples {', '.join((broken or names)[:8])}",
            where=str(self.stage.path),
            fix=f"the state of step {self.done.step} is kept; lower the learning rate or remove those rows",
        )

    def _keep(self, step: int) -> None:
        last = step == self.settings.steps
        if last or step % self.settings.held_out_every_steps == 0:
            self._measure_held_out(step)
        if not last and step % self.settings.state_every_steps == 0:
            save_state(self.stage, self.tensors, self.done, self.identity)

    def _measure_held_out(self, step: int) -> None:
        if self.held_out is None:
            return
        with self.accelerator.autocast():
            errors = self.held_out.errors(self.policy)
        start = {row["timestep"]: row["error_start"] for row in self.done.held_out}
        for t, error in errors.items():
            row = {"step": step, "timestep": t, "error": error, "error_start": start.get(t, error)}
            self.done.held_out.append(row)

    def _commit_rows(self, path: Path, schema: Any, rows: list[dict[str, Any]]) -> None:
        commit(path, lambda target: write_rows(target, schema, rows), kind=path.stem, identity=self.identity)


def _stands(stage: StageFolder, checkpoint: Path, identity: dict[str, Any]) -> bool:
    return all(is_whole(path, identity=identity) for path in (stage.training_log, stage.held_out_log, checkpoint))


def _log_row(step: int, measured: Measured, norm: float, lr: float) -> dict[str, Any]:
    def mean(values: Tensor | None) -> float | None:
        return None if values is None else float(values.mean())

    margin = measured.margin
    return {
        "step": step,
        "loss": mean(measured.loss),
        "accuracy": None if margin is None else float((margin > 0).float().mean()),
        "margin": mean(margin),
        "real_mse": mean(measured.real),
        "generated_mse": mean(measured.generated),
        "real_mse_opponent": mean(measured.real_opponent),
        "generated_mse_opponent": mean(measured.generated_opponent),
        "gradient_norm": norm,
        "lr": lr,
    }


def _join(parts: Sequence[Measured]) -> Measured:
    names = [field.name for field in dataclasses.fields(Measured)]
    columns = {name: [getattr(part, name) for part in parts] for name in names}
    return Measured(**{n: None if c[0] is None else torch.cat([v.detach() for v in c]) for n, c in columns.items()})


def _chunks(batch: Sequence[Visit], size: int) -> Iterator[Sequence[Visit]]:
    return (batch[start : start + size] for start in range(0, len(batch), size))


def _manifest(artifact: Path) -> Manifest:
    manifest = read_manifest(artifact)
    if manifest is None:
        raise ArtifactError("is not there, or was never finished", where=str(artifact), fix="run again")
    return manifest


def _result(
    checkpoint: Path, manifest: Manifest, *, steps: int, pairs: int, seconds: float, lines: tuple[str, ...] = ()
) -> TrainResult:
    return TrainResult(checkpoint, manifest.content_digest, steps, pairs, seconds, lines)
