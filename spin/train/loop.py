"""The training loop of one stage: accumulate, clip, update, log, keep."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from spin.core.environment import bit_class, device_clock
from spin.core.layout import StageFolder
from spin.core.plan import Visit, visits
from spin.diffusion.checkpoint import latent_scaling, load_schedule
from spin.diffusion.text import TextEmbeddings
from spin.train.arriving import Arriving
from spin.train.batches import BatchShape, Passes, solve_batch
from spin.train.health import health
from spin.train.held_out import HeldOut
from spin.train.identity import kept_weights, training_identity
from spin.train.log import log_row
from spin.train.networks import Networks, load_networks
from spin.train.pairs import Pairs, read_pairs
from spin.train.processes import Processes
from spin.train.request import TrainRequest
from spin.train.schedule import learning_rate
from spin.train.sharding import own
from spin.train.state import load_state, newest_state, save_state
from spin.train.step import Measured, Step
from spin.train.stopping import finite_gradients, not_finite


class Loop:
    """A running stage, from its newest state if there is one; `done` tells how far it is."""

    def __init__(
        self,
        request: TrainRequest,
        identity: Mapping[str, Any] | None,
        processes: Processes,
        arriving: Arriving | None = None,
    ) -> None:
        self.request, self.settings, self._identity = request, request.settings, identity
        self.processes, self.shape, self.arriving = processes, batch_shape(request), arriving
        self._device_clock = device_clock(request.device)
        self.stage = StageFolder(request.stage)
        self.networks = load_networks(request, processes)
        newest = 0 if arriving else processes.once(lambda: newest_state(self.stage, self.identity))
        self.done = load_state(self.stage, newest, self.networks.tensors)
        self.step_of, self.held_out = _prepare(request, self.networks, processes.device, to_come=arriving is not None)
        self._upcoming = _upcoming(request, self.step_of.pairs, after=self.done.step, arriving=arriving)
        if self.done.step == 0:
            self._measure_held_out()

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the weights are made from; known when the last of the images stands."""
        if self._identity is None:
            self._identity = training_identity(self.request)
        return self._identity

    def advance(self) -> None:
        """One optimizer step."""
        start, device_start = time.perf_counter(), self._device_clock()
        step, update, tensors = self.done.step + 1, self.networks.update, self.networks.tensors
        upcoming = islice(self._upcoming, self.settings.batch_size)
        passes = self.shape.passes(upcoming, self.step_of.pairs.shape_of)
        lr = self._set_learning_rate(step)
        parts = [self._accumulate(micro) for micro in passes.by_process[self.processes.rank]]
        self._keep_pace(passes)
        self.processes.add_gradients(update.parameters)
        norm = update.clip(self.settings.max_grad_norm)
        measured = Measured.join(parts).over_processes(self.processes)
        self._refuse_not_finite(step, passes, measured, norm)
        if update.step() and tensors.average is not None:
            tensors.average.step(update.parameters)
        self.done.step = step
        self.done.log.append(log_row(step, measured, gradient_norm=float(norm), lr=lr))
        seconds = time.perf_counter() - start
        worked = self._device_clock() - device_start
        row = {"seconds": seconds, "device_seconds": worked, "images_per_second": self.settings.batch_size / seconds}
        self.done.timing.append({"step": step, **row})
        self._keep(step)

    def note(self) -> str:
        """The newest step in a few words, and the first thing an experienced eye would say of it."""
        row = self.done.log[-1]
        text = f"loss {row['loss']:.4f}"
        if row["accuracy"] is not None:
            text += f", accuracy {row['accuracy']:.2f}"
        return "; ".join([text, *health(self.done.log, self.done.held_out)[:1]])

    def _set_learning_rate(self, step: int) -> float:
        settings = self.settings
        lr = learning_rate(
            step, lr=settings.lr, warmup_steps=settings.warmup_steps, steps=settings.steps,
            lr_schedule=settings.lr_schedule,
        )  # fmt: skip
        for group in self.networks.update.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _accumulate(self, micro: Sequence[Visit]) -> Measured:
        measured = self.step_of.measure(micro)
        self.networks.update.backward(self._loss(measured))
        return measured

    def _keep_pace(self, passes: Passes[Visit]) -> None:
        """As many passes that count for nothing as others make more: where weights are divided, all make them together.

        Processes that do not divide them meet after their passes, whose number may differ.
        """
        if self.request.sharding == "full":
            for _ in range(passes.surplus(self.processes.rank)):
                measured = self.step_of.measure(passes.by_process[self.processes.rank][-1])
                self.networks.update.backward(0.0 * self._loss(measured))

    def _loss(self, measured: Measured) -> Tensor:
        return measured.loss.sum() / self.settings.batch_size

    def _refuse_not_finite(self, step: int, passes: Passes[Visit], measured: Measured, norm: Tensor) -> None:
        """Stop before such numbers become weights; a scaler skips the step, and its scale may come to nothing."""
        update, finite = self.networks.update, torch.isfinite(measured.loss)
        if finite.all() and torch.isfinite(norm):
            return
        if finite.all():
            skips = update.scaler is not None and not self._everywhere(update.is_finite)
            if skips and not update.is_lost:
                return
            loss = lambda micro: self._loss(self.step_of.measure(micro))  # noqa: E731
            finite = finite_gradients(passes, loss, update, self.processes)
        sound = all(bool(torch.isfinite(own(parameter)).all()) for parameter in update.parameters)
        if self.done.step > 0 and self._everywhere(sound):
            self._save_state()
        kept = self.processes.once(lambda: newest_state(self.stage, self.identity)) if self._is_known() else 0
        raise not_finite(self.request, self.step_of, passes, finite, step=step, kept=kept, lost_scale=update.is_lost)

    def _everywhere(self, answer: bool) -> bool:
        """Whether the answer is yes in every process."""
        return bool(self.processes.join(torch.tensor([[float(answer)]], device=self.processes.device)).all())

    def _keep(self, step: int) -> None:
        last = step == self.settings.steps
        if last or step % self.settings.held_out_every_steps == 0:
            self._measure_held_out()
        if not last and step % self.settings.state_every_steps == 0:
            self._save_state()

    def _is_known(self) -> bool:
        """Whether the identity is, in every process."""
        found = self.arriving
        return found is None or self.processes.once(lambda: found.complete)

    def _save_state(self) -> None:
        """States name what they are made from: there is none before the last image stands."""
        if not self._is_known():
            return
        save_state(self.stage, self.networks.tensors, self.done, self.identity, self.processes)

    def _measure_held_out(self) -> None:
        if self.held_out is None:
            return
        with self.networks.accelerator.autocast():
            errors = self.held_out.errors(self.networks.policy)
        start = {row["timestep"]: row["error_start"] for row in self.done.held_out}
        for t, error in errors.items():
            row = {"step": self.done.step, "timestep": t, "error": error, "error_start": start.get(t, error)}
            self.done.held_out.append(row)


def batch_shape(request: TrainRequest) -> BatchShape:
    """How the processes of a request share each optimizer step's batch."""
    settings = request.settings
    return solve_batch(
        settings.batch_size, micro_batch_size=settings.micro_batch_size, processes=request.processes,
        setting="sft.batch_size" if settings.objective == "sft" else "train.batch_size",
    )  # fmt: skip


def class_of(request: TrainRequest) -> dict[str, object]:
    """The class within which what these processes train has equal bits."""
    place = bit_class(
        device=request.device if request.device == "cpu" else f"{request.device} {torch.cuda.get_device_name()}",
        dtype=request.dtype,
        batch_size=batch_shape(request).micro_batch_size,
        threads=request.threads,
    )
    return {**place, "processes": request.processes, "weights": kept_weights(request)}


def _prepare(request: TrainRequest, networks: Networks, device: str, *, to_come: bool) -> tuple[Step, HeldOut | None]:
    """All that a step reads, resident."""
    stage = StageFolder(request.stage)
    scaling, shift = latent_scaling(request.start)
    samples = None if networks.opponent is None or request.losers is not None else stage
    pairs = read_pairs(
        request.prompts, request.real, samples=samples, losers=request.losers, scaling=scaling, shift=shift,
        trajectories=request.settings.trajectory == "reverse", drop_unsafe=request.settings.drop_unsafe,
        to_come=to_come,
    )  # fmt: skip
    text = TextEmbeddings.read(request.text, device=device)
    schedule = load_schedule(request.start, device, law=request.settings.timestep_law)
    step = Step(
        policy=networks.policy, opponent=networks.opponent, pairs=pairs, text=text, schedule=schedule,
        settings=request.settings, run_seed=request.run_seed, stage=stage.name, device=device,
        autocast=networks.accelerator.autocast,
    )  # fmt: skip
    return step, HeldOut.read(request.prompts, request.real, text, schedule, scaling=scaling, shift=shift)


def _upcoming(request: TrainRequest, pairs: Pairs, *, after: int, arriving: Arriving | None) -> Iterator[Visit]:
    """The readings that are left after `after` optimizer steps, each when what it reads is there."""
    found = visits(
        rows=len(pairs.sample_ids), count=request.settings.steps * request.settings.batch_size, draws=request.draws,
        run_seed=request.run_seed, stage=StageFolder(request.stage).name,
    )  # fmt: skip
    left = islice(found, after * request.settings.batch_size, None)
    return left if arriving is None else arriving.in_time(left, request.settings.batch_size, pairs)
