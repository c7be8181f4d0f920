"""How a stage trains: supervised fine-tuning, and one iteration of self-play or of Diffusion-DPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Discriminator, Field, Tag

from spin.core.config_setting import (
    CHOSEN,
    DPO_CODE,
    FOREVER,
    LIST,
    MANY,
    MEASURED,
    PAPER,
    Section,
    setting,
    shape,
)
from spin.core.errors import ConfigError

TAGS: Final = ("scalar", "list")  # branches of a value that may be one or many; they show up in pydantic's locations

_Number = TypeVar("_Number", int, float)
_Lr = Annotated[float, Field(ge=0, le=1)]
_Beta = Annotated[float, Field(gt=0, le=1e9)]
_Steps = Annotated[int, Field(ge=1, le=FOREVER)]

Betas = Annotated[
    Annotated[_Beta, Tag("scalar")] | Annotated[tuple[_Beta, ...], LIST, Tag("list")], Discriminator(shape)
]
Lrs = Annotated[Annotated[_Lr, Tag("scalar")] | Annotated[tuple[_Lr, ...], LIST, Tag("list")], Discriminator(shape)]
StepCounts = Annotated[
    Annotated[_Steps, Tag("scalar")] | Annotated[tuple[_Steps, ...], LIST, Tag("list")], Discriminator(shape)
]

LoraLayers = Literal["attention", "all"]

_EMA_DECAY: Final[Any] = setting(
    None,
    "decay of averaged weights, warmed up as (1 + n) / (10 + n); they are what is saved; null for the last weights",
    source=CHOSEN,
    gt=0,
    lt=1,
)
_LORA_RANK: Final[Any] = setting(
    None, "rank of a LoRA adapter, merged in the end; null trains all weights", source=CHOSEN, ge=1, le=4096
)
_LORA_ALPHA: Final[Any] = setting(
    None, "scale of the adapter, divided by its rank; null for the rank", source=CHOSEN, gt=0, le=1e6
)
_LORA_LAYERS: Final[Any] = setting(
    "attention",
    "layers with an adapter: projections of the attention, or every linear and convolution",
    source="diffusers' training scripts",
)


class SftConfig(Section):
    """Supervised fine-tuning before the first iteration."""

    steps: int = setting(360, "optimizer steps; 0 for no such stage", source=MEASURED, ge=0, le=FOREVER)
    lr: float = setting(1e-4, "learning rate", source=f"{MEASURED}: 3e-4 overfits 384 pictures", ge=0, le=1)
    batch_size: int = setting(32, "images a step", source=MEASURED, ge=1, le=MANY)
    warmup_steps: int = setting(20, "steps of linear warm-up", source=MEASURED, ge=0, le=FOREVER)
    lr_schedule: Literal["constant", "linear"] = setting("constant", "learning rate after warm-up", source=PAPER)
    weight_decay: float = setting(0.01, "AdamW's weight decay", source=PAPER, ge=0, le=1)
    caption_dropout: float = setting(0.0, "share of captions left empty", source=MEASURED, ge=0, le=1)
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm", source=DPO_CODE, gt=0, le=1e9)
    ema_decay: float | None = _EMA_DECAY
    lora_rank: int | None = _LORA_RANK
    lora_alpha: float | None = _LORA_ALPHA
    lora_layers: LoraLayers = _LORA_LAYERS


@dataclass(frozen=True)
class IterationTraining:
    """The exact values of one iteration, counted from 1."""

    iteration: int
    beta: float
    lr: float
    steps: int


class TrainConfig(Section):
    """One iteration of self-play; beta, lr and steps are one value for all iterations, or a list with one for each."""

    losers: Literal["generated", "labelled"] = setting(
        "generated",
        "which pictures lose: the opponent's own, or labelled ones of the data (Diffusion-DPO)",
        source=PAPER,
    )
    link: Literal["logistic", "hinge", "correlation"] = setting("logistic", "convex loss of the margin", source=PAPER)
    noise: Literal["shared", "independent"] = setting(
        "shared", "one noise for real and generated, or one each (the paper, literally)", source=DPO_CODE
    )
    timestep_weight: Literal["constant", "h2"] = setting(
        "constant", "weight of a time step; h2 is the paper, literally", source=DPO_CODE
    )
    opponent: Literal["previous", "earlier", "average"] = setting(
        "previous",
        "held against the policy: the newest model, the one before, or an average of them",
        source=PAPER,
    )
    opponent_decay: float = setting(
        0.5, "share of an averaged opponent that stays at each iteration", source=CHOSEN, ge=0, lt=1
    )
    trajectory: Literal["forward", "reverse"] = setting(
        "forward", "losers noised anew (forward), or as the sampler met them (reverse, Eq. C.5)", source=PAPER
    )
    objective: Literal["approximate", "exact"] = setting(
        "approximate",
        "over the time steps of a pair: mean of losses (Eq. 4.9), or loss of the mean (4.8)",
        source=f"{PAPER}, experiments",
    )
    timesteps_per_pair: int = setting(
        1, "time steps, each with its noise, that a pair is read at; each takes a pass's memory", source=PAPER,
        ge=1, le=1000,
    )  # fmt: skip
    safeguard: float | None = setting(
        None,
        "mu of Diffusion-SDPO: the loser's gradient leaves the winner this share of its descent; null for whole",
        source=f"{MEASURED}: 0.9 takes the gain away",
        gt=0,
        lt=1,
    )
    timestep_law: Literal["model", "uniform"] = setting(
        "model",
        "law of the time steps, also of sft: the model family's own (flows: logit-normal), or uniform",
        source="arXiv 2403.03206, Table 1; diffusion models are uniform anyway",
    )
    beta: Betas = setting(300.0, "pull to the opponent, dimensionless, with the factor 1/2", source=MEASURED)
    lr: Lrs = setting(3e-5, "learning rate", source=f"{MEASURED}: 1e-4 collapses")
    steps: StepCounts = setting(120, "optimizer steps an iteration", source=MEASURED)
    batch_size: int = setting(32, "pairs a step", source=MEASURED, ge=1, le=MANY)
    micro_batch_size: int = setting(32, "pairs in one pass; a step adds up its passes", source=MEASURED, ge=1, le=MANY)
    warmup_steps: int = setting(
        10, "steps of linear warm-up; may be longer than an iteration", source=MEASURED, ge=0, le=FOREVER
    )
    lr_schedule: Literal["constant", "linear"] = setting("constant", "learning rate after warm-up", source=MEASURED)
    weight_decay: float = setting(0.01, "AdamW's weight decay", source=PAPER, ge=0, le=1)
    optimizer: Literal["adamw", "adamw_8bit"] = setting(
        "adamw",
        "AdamW, also of sft; adamw_8bit has its moments in 8 bits, and needs bitsandbytes",
        source=PAPER,
    )
    adam_beta1: float = setting(0.9, "AdamW's first decay", source="torch's default", ge=0, lt=1)
    adam_beta2: float = setting(0.999, "AdamW's second decay", source="torch's default", ge=0, lt=1)
    adam_epsilon: float = setting(1e-8, "AdamW's epsilon", source="torch's default", gt=0, le=1)
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm", source=DPO_CODE, gt=0, le=1e9)
    ema_decay: float | None = _EMA_DECAY
    gradient_checkpointing: bool = setting(False, "less memory for more time", source=CHOSEN)
    compile: bool = setting(
        False, "torch.compile policy and opponent, also of sft; every pass is filled up to one size", source=CHOSEN
    )
    reference: Literal["live", "stored"] = setting(
        "live",
        "the opponent's errors: asked in each pass, or stored for a sweep once all images stand",
        source=CHOSEN,
    )
    sft_weight: float = setting(
        0.1, "weight of the anchor: sft_weight * beta * error on the real images", source=MEASURED, ge=0, le=1000
    )
    caption_dropout: float = setting(0.0, "share of pairs with an empty caption", source=MEASURED, ge=0, le=1)
    flip: bool = setting(False, "mirror half of the pairs; pictures of both sides are encoded both ways", source=CHOSEN)
    posterior_sample: bool = setting(
        True, "draw real latents from the encoder's posterior; false takes its mean", source=DPO_CODE
    )
    state_every_steps: int = setting(40, "steps between two states to resume from", source=CHOSEN, ge=1, le=FOREVER)
    held_out_every_steps: int = setting(40, "steps between held-out errors", source=CHOSEN, ge=1, le=FOREVER)
    lora_rank: int | None = _LORA_RANK
    lora_alpha: float | None = _LORA_ALPHA
    lora_layers: LoraLayers = _LORA_LAYERS

    def at(self, iteration: int) -> IterationTraining:
        """Beta, lr and steps of iteration `iteration`, counted from 1."""
        if iteration < 1:
            raise ConfigError(f"iterations count from 1, got {iteration}", where="train")
        return IterationTraining(
            iteration=iteration,
            beta=_value_at("beta", self.beta, iteration),
            lr=_value_at("lr", self.lr, iteration),
            steps=_value_at("steps", self.steps, iteration),
        )


def _value_at(name: str, value: _Number | tuple[_Number, ...], iteration: int) -> _Number:
    if not isinstance(value, tuple):
        return value
    if iteration > len(value):
        raise ConfigError(f"has {len(value)} values, so there is no iteration {iteration}", where=f"train.{name}")
    return value[iteration - 1]
