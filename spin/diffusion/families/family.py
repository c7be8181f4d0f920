"""What a family of pipelines must say of itself; all else of diffusers' folders is alike.

A family is one file beside this one, with a subclass and `FAMILY = TheSubclass()`; `registry` finds it by its
pipeline's class. No torch is imported here or there at the top: `check` reads a model's configs by its family.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

Configs = Mapping[str, Mapping[str, Any]]  # of each component, by its name
Given = Mapping[str, "Tensor"]  # what a network is told besides the noisy latents, (B, ...) each
Shape = tuple[int, ...]


class Family(ABC):
    """One kind of pipeline."""

    pipeline: ClassVar[str]  # its class in diffusers, as model_index.json names it
    denoiser: ClassVar[str]  # the component that trains
    denoiser_class: ClassVar[str]  # its class in diffusers
    text_parts: ClassVar[tuple[str, ...]]  # components that a prompt goes through
    optional: ClassVar[tuple[str, ...]] = ()  # of these, those that a model may lack
    attention: ClassVar[tuple[str, ...]]  # projections of the attention, where a LoRA adapter goes
    kohya: ClassVar[Literal["diffusers", "sgm"] | None] = None  # whose names kohya's files go by; None: it has no such
    pixels_per_latent: ClassVar[int | None] = None  # each way, where the network is told sizes; else as the VAE has it
    position_grid: ClassVar[str | None] = None  # of the denoiser's config, its most patches a side; None: no such limit
    flow: ClassVar[bool] = False  # whether it is a rectified flow; else a diffusion with alphas_cumprod

    @property
    def parts(self) -> tuple[str, ...]:
        """All components that the family works with."""
        return (self.denoiser, "vae", *self.text_parts, "scheduler")

    @abstractmethod
    def given_shapes(self, configs: Configs) -> Mapping[str, Shape]:
        """Shape of each tensor of one encoded prompt, by what its text encoders' configs say."""

    @abstractmethod
    def wanted_widths(self, configs: Configs) -> Mapping[str, int]:
        """Last size of the same tensors, by what the denoiser's config says."""

    @abstractmethod
    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Given:
        """Prompts through the text encoders of a pipeline of diffusers, without a gradient.

        Args:
            pipeline: of the family's class, its text parts alone.
        """

    def encode_nothing(self, pipeline: Any) -> Given | None:  # noqa: ARG002  for those that need it
        """What guidance compares with, (1, ...) each; None: the empty prompt, encoded as any other."""
        return None

    @abstractmethod
    def predict(self, network: nn.Module, noisy: Tensor, time: Tensor, given: Given) -> Tensor:
        """What a network says of x_t, (B, C, h, w).

        Args:
            noisy: (B, C, h, w) in the network's dtype, or an autocast's.
            time: (B,) or (), as the network counts it: 0 is clean, its number of training steps is noise.
        """
