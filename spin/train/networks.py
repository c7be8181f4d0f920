"""What one stage trains and what it is held against, loaded and ready to run."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.optim import Optimizer

from spin.core.errors import ConfigError
from spin.core.layout import StageFolder
from spin.core.memory import comes_of_shortage
from spin.core.plan import seed_of
from spin.diffusion.checkpoint import load_denoiser, verify_checkpoint
from spin.diffusion.compiling import CompiledNetwork
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.families.registry import family_of
from spin.diffusion.lora import WithoutAdapter
from spin.diffusion.optimizers import make_optimizer
from spin.diffusion.policy import Adapter, laid_out, open_policy, training_layout
from spin.train.identity import kept_weights
from spin.train.processes import Processes
from spin.train.request import TrainingSettings, TrainRequest
from spin.train.sharding import divide_network
from spin.train.state import Tensors
from spin.train.update import Update

_APART: Final = 0.5  # of a gradient's length: what is left out makes 1
_PRECISION: Final = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Networks:
    """Policy and opponent as the accelerator runs them; `tensors` is what a state keeps of them."""

    accelerator: Accelerator
    policy: Denoiser
    opponent: Denoiser | None  # frozen, or the policy with its adapter off; None: there is none, or it is stored
    tensors: Tensors
    compiled: tuple[CompiledNetwork, ...] = ()  # of these, those that were asked to be

    @property
    def update(self) -> Update:
        return self.tensors.update

    @property
    def notes(self) -> tuple[str, ...]:
        """What went wrong with compiling, once for each reason."""
        return tuple(dict.fromkeys(note for network in self.compiled for note in network.notes))

    def try_out(self, learn: Callable[[], object], processes: Processes) -> None:
        """Learn from a pass once without an effect: compiled backward passes are made there, or found to be impossible.

        In a training they would fail when part of a step's gradient is there already. What they learn is compared with
        what the same networks learn eager: a compiler may leave out a part without a word.
        """
        while self.compiled:
            try:
                learn()
                self._compare(learn, processes)
                return
            except Exception as error:  # any backend failure; raised once all run eager
                recovered = [network.recover(error) for network in self.compiled]
                if not any(recovered):
                    raise
            finally:
                self.update.forget()

    def _compare(self, learn: Callable[[], object], processes: Processes) -> None:
        """Run eager from now on, in every process, where one of them has learned something else compiled."""
        apart = float(processes.join(torch.tensor([[self._apart(learn)]], device=processes.device)).max())
        if apart > _APART:
            for network in self.compiled:
                network.give_up(f"some weights have another gradient than eager, {apart:.2f} of its length apart")

    def _apart(self, learn: Callable[[], object]) -> float:
        """How far the gradient that is there is from the eager one; 0 where a GPU's memory is too short to tell."""
        compiled = [parameter.grad for parameter in self.update.parameters]
        self.update.forget()
        try:
            with ExitStack() as eager:
                for network in self.compiled:
                    eager.enter_context(network.uncompiled())
                learn()
            return furthest(compiled, [parameter.grad for parameter in self.update.parameters])
        except Exception as error:
            if not comes_of_shortage(error):
                raise
            return 0.0


def furthest(found: Sequence[Tensor | None], wanted: Sequence[Tensor | None]) -> float:
    """The largest distance of a weight's gradient from the one wanted, by that one's length.

    Lengths below a hundredth of the whole gradient's count as that: the smallest ones are noise under bfloat16.
    Infinite where only what was found is not finite; 0 where neither is, as in float16 before its scale is found.
    """
    pairs = [(torch.zeros_like(b) if a is None else a, b) for a, b in zip(found, wanted, strict=True) if b is not None]
    least = 0.01 * float(nn.utils.get_total_norm([b for _, b in pairs]))
    if not 0.0 < least < math.inf:
        return 0.0
    distances = [float((a - b).norm()) / max(float(b.norm()), least) for a, b in pairs]
    return max(distances) if all(map(math.isfinite, distances)) else math.inf


def load_networks(request: TrainRequest, processes: Processes | None = None) -> Networks:
    """Load the start as policy, and for self-play the opponent, on one precision path.

    Args:
        processes: those that train together, and may divide what is loaded; default, this one alone.
    """
    processes = processes or Processes(request.device)
    accelerator = _accelerator(request)
    ready = partial(_ready, accelerator, device=processes.device, divided=kept_weights(request) == "divided")
    verify_checkpoint(request.start)
    network, family = load_policy(request, processes.device), family_of(request.start)
    policy = ready(network)
    running = _running(policy, request)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    moments = request.sharding == "optimizer" and request.processes > 1
    optimizer = _optimizer(trained, request.settings, divided=moments)
    decay = request.settings.ema_decay
    average = None if decay is None else EMAModel(trained, decay=decay)
    alone = request.settings.objective == "sft" or request.errors is not None
    opponent = None if alone else _opponent(request, policy, running, ready, processes.device)
    against = None if opponent is None else Denoiser(opponent, family)
    tensors = Tensors(network, Update(trained, optimizer, accelerator.scaler), average)
    compiled = tuple(found for found in (running, opponent) if isinstance(found, CompiledNetwork))
    return Networks(accelerator, Denoiser(running, family), against, tensors, compiled)


def load_opponent(request: TrainRequest, processes: Processes) -> tuple[Accelerator, Denoiser]:
    """The opponent by itself, on the precision path of a training."""
    accelerator = _accelerator(request)
    ready = partial(_ready, accelerator, device=processes.device, divided=kept_weights(request) == "divided")
    opponent = _own_opponent(request, ready, processes.device)
    return accelerator, Denoiser(opponent, family_of(request.start))


def _ready(accelerator: Accelerator, network: nn.Module, *, device: str, divided: bool) -> nn.Module:
    """A network under the autocast, and divided among the processes where that is asked.

    Precision only: as a training model accelerate would wrap it under torchrun, and average the gradients, which
    `Processes.add_gradients` adds up once a step.
    """
    found: nn.Module = accelerator.prepare_model(network, evaluation_mode=True)
    if divided:
        divide_network(network, device=device)
    return found


def load_policy(request: TrainRequest, device: str) -> nn.Module:
    """The start, with what is to train of it: all weights, or an adapter."""
    settings, adapter = request.settings, None
    if settings.lora_rank is not None:
        seed = seed_of("adapter", request.run_seed, StageFolder(request.stage).name)
        adapter = Adapter(settings.lora_rank, settings.lora_alpha, settings.lora_layers, seed)
    network: nn.Module = open_policy(
        request.start, device=device, recompute=settings.gradient_checkpointing, adapter=adapter,
        layout=_layout(request),
    )  # fmt: skip
    return network


def _layout(request: TrainRequest) -> torch.memory_format:
    divided = kept_weights(request) == "divided"
    return training_layout(request.dtype, optimizer=request.settings.optimizer, divided=divided)


def _optimizer(trained: Sequence[nn.Parameter], settings: TrainingSettings, *, divided: bool) -> Optimizer:
    return make_optimizer(
        trained, settings.optimizer, lr=settings.lr, betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon, weight_decay=settings.weight_decay, divided=divided,
    )  # fmt: skip


def _opponent(
    request: TrainRequest, policy: nn.Module, running: Any, ready: Callable[[nn.Module], nn.Module], device: str
) -> Any:
    """Where it is the start and an adapter trains, the policy without it: no second network."""
    if request.reference is None and request.settings.lora_rank is not None:
        return WithoutAdapter(policy, running)
    return _own_opponent(request, ready, device)


def _own_opponent(request: TrainRequest, ready: Callable[[nn.Module], nn.Module], device: str) -> Any:
    folder = request.reference or request.start
    verify_checkpoint(folder)
    return _running(ready(laid_out(load_denoiser(folder, device=device), _layout(request))), request)


def _running(network: nn.Module, request: TrainRequest) -> Any:
    """A network as it is called: compiled where that is asked."""
    if not request.settings.compile:
        return network
    return CompiledNetwork(network, enabled=True)


def _accelerator(request: TrainRequest) -> Accelerator:
    if request.device == "cpu" and request.dtype == "float16":
        raise ConfigError(
            "float16 does not train on a CPU", where="execution.dtype", fix="set it to float32 or bfloat16"
        )
    if request.settings.compile and kept_weights(request) == "divided":
        raise ConfigError(
            "full does not go with train.compile: weights that come together block by block break every graph",
            where="execution.train_sharding", fix="set it to optimizer, or train.compile to false",
        )  # fmt: skip
    AcceleratorState._reset_state(True)  # a process may train stages of different precision
    accelerator = Accelerator(cpu=request.device == "cpu", mixed_precision=_PRECISION[request.dtype])
    torch.set_num_threads(request.threads)  # under torchrun accelerate takes all cores where OMP_NUM_THREADS is not set
    return accelerator
