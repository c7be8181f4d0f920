"""What a network is told besides the noisy latents: the prompt's tensors, by the names that its family gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spin.diffusion.transfer import to_device


@dataclass(frozen=True)
class Conditioning:
    """Tensors by name, (B, ...) each: `embedding` (B, T, D) in every family, `pooled` (B, P) in some."""

    tensors: Mapping[str, Tensor]

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Rows of all parts, one behind the other."""
        return cls({name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors})

    @classmethod
    def zeros(
        cls, shapes: Mapping[str, tuple[int, ...]], count: int, *, device: str, dtype: torch.dtype
    ) -> Conditioning:
        """`count` rows of zeros, of the shapes that a family gives one encoded prompt."""
        return cls({name: torch.zeros(count, *size, device=device, dtype=dtype) for name, size in shapes.items()})

    def __len__(self) -> int:
        return len(self.tensors["embedding"])

    @property
    def dtype(self) -> torch.dtype:
        return self.tensors["embedding"].dtype

    @property
    def device(self) -> torch.device:
        return self.tensors["embedding"].device

    def __getitem__(self, rows: list[int] | slice) -> Conditioning:
        return self._each(lambda values: values[rows])

    def clone(self) -> Conditioning:
        return self._each(torch.clone)

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Conditioning:
        return self._each(lambda values: to_device(values, device, dtype))

    def expand(self, count: int) -> Conditioning:
        """One row as `count` of them, without a copy."""
        return self._each(lambda values: values.expand(count, *values.shape[1:]))

    def where(self, mask: Tensor, other: Conditioning) -> Conditioning:
        """Rows of this one where `mask`, (B,) bool, holds; those of `other`, which may have one row, elsewhere."""
        mask = mask.to(self.device)

        def chosen(name: str, values: Tensor) -> Tensor:
            return torch.where(mask.view(-1, *[1] * (values.ndim - 1)), values, other.tensors[name])

        return Conditioning({name: chosen(name, values) for name, values in self.tensors.items()})

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return Conditioning({name: change(values) for name, values in self.tensors.items()})
