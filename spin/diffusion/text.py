"""Caption embeddings of the real cache, looked up by prompt hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spin.core.errors import ArtifactError
from spin.core.plan import prompt_hash
from spin.core.schema import read_table, read_tensors
from spin.core.store import verify
from spin.diffusion.checkpoint import DTYPES


@dataclass(frozen=True)
class TextEmbeddings:
    """(N, T, D) embeddings and the row of each prompt hash."""

    rows: dict[str, int]
    values: Tensor

    @classmethod
    def read(cls, path: Path, *, device: str, dtype: str = "float32") -> TextEmbeddings:
        verify(path)
        table = read_table(path)
        values = torch.from_numpy(read_tensors(table, "embedding").copy())
        hashes = table["prompt_hash"].to_pylist()
        return cls({name: i for i, name in enumerate(hashes)}, values.to(device, DTYPES[dtype]))

    def of(self, hashes: Sequence[str]) -> Tensor:
        """(B, T, D) embeddings of prompts by hash."""
        try:
            return self.values[[self.rows[name] for name in hashes]]
        except KeyError as error:
            raise ArtifactError(
                f"prompt {error} has no embedding", where="text.parquet", fix="prepare again"
            ) from error

    @property
    def empty(self) -> Tensor:
        """(1, T, D) embedding of the empty caption."""
        return self.of([prompt_hash("")])
