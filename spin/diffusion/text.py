"""Prompts as the model sees them: encoded by its text encoder, or looked up in the real cache by prompt hash."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

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


@dataclass(frozen=True)
class PromptEncoder:
    """A pipeline's text encoder in float32, and its tokenizer."""

    encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    device: str

    @classmethod
    def load(cls, folder: Path, *, device: str) -> PromptEncoder:
        disable_progress_bar()  # transformers' own; the room tells its progress itself
        try:
            encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise ArtifactError(
                f"cannot load the text encoder: {reason}", where=str(folder), fix="restore the folder"
            ) from error
        return cls(encoder.to(device).eval().requires_grad_(False), _tokenizer(folder), device)

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens and width of an encoded prompt."""
        return self.encoder.config.max_position_embeddings, self.encoder.config.hidden_size

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """(B, tokens, width) float32; prompts that are too long are cut, as the pipeline does."""
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.shape[0], truncation=True, return_tensors="pt"
        )
        values: Tensor = self.encoder(tokens.input_ids.to(self.device)).last_hidden_state
        return values


def token_counter(folder: Path) -> Callable[[list[str]], list[int]]:
    """Counts the tokens of prompts by a pipeline's own tokenizer, start and end among them, not cut off."""
    tokenizer = _tokenizer(folder)
    return lambda prompts: [len(ids) for ids in tokenizer(prompts, truncation=False, verbose=False).input_ids]


def _tokenizer(folder: Path) -> CLIPTokenizer:
    try:
        return CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"cannot load the tokenizer: {reason}", where=str(folder), fix="restore it") from error
