"""The training loop of one stage: accumulate, clip, update, log, keep."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Self

import torch
from torch import Tensor

from spin.core.environment import device_clock
from spin.core.layout import StageFolder
from spin.core.plan import Visit
from spin.diffusion.checkpoint import latent_scaling, load_schedule
from spin.train.arriving import Arriving
from spin.train.batches import Passes
from spin.train.health import health
from spin.train.held_out import HeldOut
from spin.train.identity import training_identity
from spin.train.inputs import Inputs
from spin.train.loader import Loader
from spin.train.log import log_row
from spin.train.networks import Networks, load_networks
from spin.train.processes import Processes
from spin.train.reading import Read, open_reader, reads
from spin.train.reference import open_errors
from spin.train.request import TrainRequest
from spin.train.schedule import learning_rate
from spin.train.sharding import own
from spin.train.state import load_state, newest_state, save_state
from spin.train.step import Measured, Step
from spin.train.stopping import finite_gradients, not_finite


class Loop:
    """A running stage, from its newest state if there is one; `done` tells how far it is.

    A context: at its end, or an error, the thread that reads ahead ends too.
    """

    def __init__(self, request: TrainRequest, processes: Processes, arriving: Arriving | None = None) -> None:
        self.request, self.settings = request, request.settings
        self.processes, self.arriving = processes, arriving
        self._device_clock = device_clock(request.device)
        self.stage = StageFolder(request.stage)
        self.networks = load_networks(request, processes)
        newest = 0 if arriving else processes.once(lambda: newest_state(self.stage, self.identity))
        self.done = load_state(self.stage, newest, self.networks.tensors)
        self.step_of, self.held_out = _prepare(request, self.networks, processes.device, to_come=arriving is not None)
        if self.done.step == 0:
            self._measure_held_out()
        readings = partial(reads, request, self.step_of.reader, processes, after=self.done.step, arriving=arriving)
        self.networks.try_out(lambda: self._learn(next(readings()).inputs), self.processes)
        self._loader = Loader(readings())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.arriving is not None:
            self.arriving.standing.give_up()
        self.close()

    def close(self) -> None:
        """End the thread that reads ahead."""
        self._loader.close()

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What the weights are made from; known when the last of the images stands."""
        return training_identity(self.request)

    def advance(self) -> None:
        """One optimizer step."""
        start, device_start, stalled = time.perf_counter(), self._device_clock(), self._loader.stall_seconds
        step, update, tensors = self.done.step + 1, self.networks.update, self.networks.tensors
        lr = self._set_learning_rate(step)
        passes, parts = self._accumulate()
        self.processes.add_gradients(update.parameters)
        norm = update.clip(self.settings.max_grad_norm)
        measured = Measured.join(parts).over_processes(self.processes)
        self._refuse_not_finite(step, passes, measured, norm)
        if update.step() and tensors.average is not None:
            tensors.average.step(update.parameters)
        self.done.step = step
        self.done.log.append(log_row(step, measured, gradient_norm=float(norm), lr=lr))
        seconds = time.perf_counter() - start
        self.done.timing.append({
            "step": step, "seconds": seconds, "device_seconds": self._device_clock() - device_start,
            "images_per_second": self.settings.batch_size / seconds,
            "stall_seconds": self._loader.stall_seconds - stalled,
        })  # fmt: skip
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

    def _accumulate(self) -> tuple[Passes[Visit], list[Measured]]:
        """Add up the gradients of this process's passes of a step; what the whole step reads, and what was measured."""
        parts: list[Measured] = []
        while True:
            read = self._loader.next()
            parts.append(self._learn(read.inputs))
            if len(parts) == len(read.passes.by_process[self.processes.rank]):
                self._keep_pace(read)
                return read.passes, parts

    def _learn(self, inputs: Inputs) -> Measured:
        measured = self.step_of.measured(inputs)
        self.networks.update.backward(self._loss(measured))
        return measured

    def _keep_pace(self, last: Read) -> None:
        """As many passes that count for nothing as others make more: where weights are divided, all make them together.

        Processes that do not divide them meet after their passes, whose number may differ.
        """
        if self.request.sharding == "full":
            for _ in range(last.passes.surplus(self.processes.rank)):
                self.networks.update.backward(0.0 * self._loss(self.step_of.measured(last.inputs)))

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
        raise not_finite(
            self.request, self.step_of.reader, passes, finite, step=step, kept=kept, lost_scale=update.is_lost
        )

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
        eager = replace(self.networks.policy, network=self.networks.tensors.denoiser)  # not compiled for its batch too
        with self.networks.accelerator.autocast():
            errors = self.held_out.errors(eager)
        start = {row["timestep"]: row["error_start"] for row in self.done.held_out}
        for t, error in errors.items():
            row = {"step": self.done.step, "timestep": t, "error": error, "error_start": start.get(t, error)}
            self.done.held_out.append(row)


def _prepare(request: TrainRequest, networks: Networks, device: str, *, to_come: bool) -> tuple[Step, HeldOut | None]:
    """All that a step reads, resident."""
    schedule = load_schedule(request.start, device, law=request.settings.timestep_law)
    reader = open_reader(request, schedule, to_come=to_come)
    reader = replace(reader, errors=open_errors(request, rows=len(reader.pairs.sample_ids)))
    step = Step(
        policy=networks.policy, opponent=networks.opponent, reader=reader, schedule=schedule, settings=request.settings,
        device=device, autocast=networks.accelerator.autocast,
    )  # fmt: skip
    text, (scaling, shift) = replace(reader.text, device=device), latent_scaling(request.start)
    return step, HeldOut.read(request.prompts, request.real, text, schedule, scaling=scaling, shift=shift)
