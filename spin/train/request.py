"""What the train room is asked and what it answers; paths and exact values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spin.core.memory import Knob, switched


@dataclass(frozen=True)
class TrainingSettings:
    """Exact values of one stage. `micro_batch_size` changes memory and speed, never the losses."""

    objective: Literal["spin", "sft"]
    steps: int  # optimizer steps
    batch_size: int  # pairs (spin) or images (sft) per optimizer step
    micro_batch_size: int
    lr: float
    warmup_steps: int  # may exceed `steps`: the rate then never reaches `lr`
    lr_schedule: Literal["constant", "linear"]
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    caption_dropout: float
    flip: bool
    posterior_sample: bool
    ema_decay: float | None  # the average is what is saved
    gradient_checkpointing: bool
    state_every_steps: int
    held_out_every_steps: int
    link: Literal["logistic", "hinge", "correlation"] = "logistic"
    noise: Literal["shared", "independent"] = "shared"
    timestep_weight: Literal["constant", "h2"] = "constant"
    beta: float = 0.0  # dimensionless; 0 for sft
    sft_weight: float = 0.0  # adds sft_weight * beta * real error
    trajectory: Literal["forward", "reverse"] = "forward"  # reverse: the loser is the opponent's own x'_t (C.5)
    over_timesteps: Literal["approximate", "exact"] = "approximate"  # mean of l (4.9), or l of the mean margin (4.8)
    timesteps_per_pair: int = 1  # draws of time and noise for each pair of a step
    safeguard: float | None = None  # mu of Diffusion-SDPO; None: the loser's gradient stays whole
    timestep_law: Literal["model", "uniform"] = "model"  # of the training's times; a flow's own is not uniform
    drop_unsafe: bool = False  # pairs whose generated image a safety checker marked get no weight
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    compile: bool = False  # torch.compile both networks; of the class of equal bits
    lora_rank: int | None = None  # None: all weights train
    lora_alpha: float = 0.0  # scale of the adapter, divided by the rank; 0 without one
    lora_layers: Literal["attention", "all"] = "attention"


@dataclass(frozen=True)
class Awaited:
    """Images that may still be drawn while a training on them goes on."""

    identity: dict[str, Any]  # of their shards: others that stand in their place are not read
    limit_seconds: float  # that the training waits for any one shard


@dataclass(frozen=True)
class TrainRequest:
    stage: Path  # runs/<run>/iteration-01 or runs/<run>/sft
    start: Path  # checkpoint folder: initialisation, and the opponent unless `reference` is another
    start_digest: str
    prompts: Path
    real: Path  # real.parquet of the cache
    text: Path  # text.parquet of the cache
    draws: int  # generated images per row
    run_seed: int
    settings: TrainingSettings
    device: str
    dtype: str  # float32, or the autocast dtype over float32 master weights
    threads: int
    check_steps: int = 0  # of a stage that stands: so many first steps are made again and compared; trains nothing
    processes: int = 1  # that share each optimizer step's batch; started by torchrun where more than 1
    sharding: Literal["none", "optimizer", "full"] = "none"  # what those processes divide instead of each holding all
    losers: Path | None = None  # losers.parquet of the cache: Diffusion-DPO; None: the opponent's samples of the stage
    reference: Path | None = None  # checkpoint folder of the opponent; None: the start
    reference_digest: str | None = None
    attention: str = "auto"  # kernel of the networks' attention, execution.attention
    errors: Path | None = None  # folder of opponents' errors, computed once; None: the opponent is asked at each pass
    awaited: Awaited | None = None  # the stage's samples, where they need not all stand yet
    report_to: tuple[str, ...] = ()  # names of experiment trackers; no part of what the weights are made from

    @property
    def memory_knobs(self) -> tuple[Knob, ...]:
        """What takes less memory; the passes first, which the peak goes by."""
        asked, section = self.settings, "sft" if self.settings.objective == "sft" else "train"
        in_a_pass = min(asked.micro_batch_size, asked.batch_size // self.processes)
        return (
            Knob("train.micro_batch_size", asked.micro_batch_size, in_a_pass // 2 or None),
            switched("train.gradient_checkpointing", asked.gradient_checkpointing, True),
            *self._dividing_knobs,
            Knob(f"{section}.lora_rank", asked.lora_rank, 16 if asked.lora_rank is None else None),
        )

    @property
    def _dividing_knobs(self) -> tuple[Knob, ...]:
        """Either of the two that exclude each other: moments in 8 bits are not divided."""
        eight, divided = self.settings.optimizer != "adamw", self.sharding != "none"
        shard = () if eight or self.processes == 1 else (switched("execution.train_sharding", self.sharding, "full"),)
        return shard if divided else (*shard, switched("train.optimizer", self.settings.optimizer, "adamw_8bit"))


@dataclass(frozen=True)
class AverageRequest:
    target: Path  # runs/<run>/iteration-02/opponent
    opponent: Path  # checkpoint folder of the iteration before's opponent
    opponent_digest: str
    iterate: Path  # checkpoint folder of the newest model
    iterate_digest: str
    decay: float  # share of the opponent's weights that stays

    @property
    def memory_knobs(self) -> tuple[Knob, ...]:
        """What takes less memory: two models are in it, whatever else is set."""
        return (switched("train.opponent", "average", "previous"),)


@dataclass(frozen=True)
class TrainResult:
    checkpoint: Path
    digest: str
    steps: int  # optimizer steps done by this call; 0 where the checkpoint stood
    pairs: int
    seconds: float
    health: tuple[str, ...]
    checked: int = 0  # steps made again
    differing: int = 0  # of these, those whose row of the log is not equal to what stands
    largest_difference: float = 0.0  # of any number of the log; 0.0: bit for bit
    notes: tuple[str, ...] = ()
