"""What a run's work is, and what a model's architecture says of it: operations and bytes, counted, not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spin.core.approximation import EXACT, Approximation
from spin.core.config_training import LoraLayers

# A network of its own, the policy with its adapter off, or asked before the training, which reads what it said.
Opponent = Literal["own", "shared", "stored"]


@dataclass(frozen=True)
class Flops:
    """Floating-point operations, a multiply-add is 2; apart, because in float32 torch rounds only convolutions' inputs
    to TF32 (`torch.backends.cudnn.allow_tf32`)."""

    convolution: float = 0.0
    matrix: float = 0.0

    @property
    def total(self) -> float:
        return self.convolution + self.matrix

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.convolution + other.convolution, self.matrix + other.matrix)

    def __mul__(self, times: float) -> Flops:
        return Flops(times * self.convolution, times * self.matrix)


@dataclass(frozen=True)
class Sizes:
    """Numbers that a model is made of and works on."""

    weights: int  # of the denoiser
    vae_weights: int
    text_weights: int  # of all text encoders
    latent: int  # of one picture
    prompt: int  # of one encoded prompt
    picture: int  # side in pixels

    @property
    def all_weights(self) -> int:
        return self.weights + self.vae_weights + self.text_weights


@dataclass(frozen=True)
class Passes:
    """One pass of each network: through the denoiser and the VAE for a picture, the text encoders for a prompt."""

    denoised: Flops
    encoded: Flops
    decoded: Flops
    prompt: Flops


@dataclass(frozen=True)
class Learning:
    """A stage of training."""

    flops: Flops  # of an image, or of a pair at one time step, with what it is held against
    trained: int  # weights that train
    adapter: int  # of these, those that the model has besides its own
    pass_bytes: int  # what is alive at once in a pass of the micro-batch, besides weights and gradients
    image_bytes: int  # more of it for each image or pair more


@dataclass(frozen=True)
class Drawing:
    """A batch of pictures that is drawn."""

    denoised: Flops  # of one picture, by the denoiser in the run's precision
    vae: Flops  # of one picture, by the VAE in its own; 0 where latents alone are drawn
    vae_dtype: str
    batch_bytes: int  # what is alive at once, besides weights
    vae_bytes: int  # weights of the VAE as it is loaded; 0 where it is not
    saved: Flops = Flops()  # of one picture, by what its approximations leave out


@dataclass(frozen=True)
class Looking:
    """A safety checker at work, in float32."""

    flops: Flops  # of one picture
    weight_bytes: int
    picture_bytes: int  # what is alive at once for each picture of a batch, besides weights


@dataclass(frozen=True)
class Trained:
    """How a stage trains, as far as it decides work and memory."""

    images: int  # or pairs, in one pass
    opponent: Opponent | None  # that pairs are held against; None: images alone
    timesteps: int  # at which a pass reads each pair
    lora_rank: int | None
    lora_layers: LoraLayers
    recompute: bool  # gradient checkpointing
    dtype: str

    @property
    def pairs(self) -> bool:
        """Whether it trains on pairs, held against an opponent."""
        return self.opponent is not None

    @property
    def latents(self) -> int:
        """That the network is asked of at once for one image or pair."""
        return (2 if self.pairs else 1) * self.timesteps


def network_calls(scheduler: str, steps: int) -> int:
    """How often a solver asks the network in so many steps; guidance asks it of two halves each time.

    Heun's method asks twice a step, but once in the last; PNDM asks once more than it has steps, if it has several.
    """
    return {"edm": 2 * steps - 1, "pndm": steps + (steps > 1)}.get(scheduler, steps)


@dataclass(frozen=True)
class Drawn:
    """How pictures are drawn, as far as it decides work and memory."""

    batch: int
    guided: bool
    steps: int
    scheduler: str
    decoded: bool
    encodings: int  # after decoding; with mirrored pictures 2
    dtype: str
    approximation: Approximation = EXACT
