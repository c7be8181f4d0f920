"""Prompts as the model sees them: encoded by its text encoders, or looked up in the real cache by prompt hash."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from transformers import CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from spin.core.errors import ArtifactError
from spin.core.names import Finder, Names
from spin.core.plan import prompt_hash
from spin.core.schema import read_batches
from spin.core.store import verify
from spin.core.tensor_rows import TensorRows, open_tensors
from spin.diffusion.checkpoint import DTYPES, denoiser_without_weights
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.families.family import Family, Shape
from spin.diffusion.families.registry import components, family_of, read_configs


@dataclass(frozen=True)
class TextEmbeddings:
    """Encoded prompts by hash, read from the disk when they are asked for: Pick-a-Pic's take 14 GB for SD-1.5."""

    prompts: Finder
    values: Mapping[str, TensorRows]
    device: str
    dtype: torch.dtype

    @classmethod
    def read(cls, path: Path, *, device: str, dtype: str = "float32") -> TextEmbeddings:
        """Every tensor column of text.parquet; the file is verified now."""
        verify(path)
        hashes = Names.of(batch["prompt_hash"].to_pylist() for batch in read_batches(path, ["prompt_hash"]))
        columns = pq.read_schema(path).names
        values = {name: open_tensors([path], name) for name in columns if name != "prompt_hash"}
        return cls(hashes.finder(), values, device, DTYPES[dtype])

    def of(self, hashes: Sequence[str]) -> Conditioning:
        """Encoded prompts by hash; one that several rows have is read once."""
        unique = list(dict.fromkeys(hashes))
        rows = self.prompts.rows_of(unique)
        if -1 in rows:
            missing = unique[int(np.flatnonzero(rows < 0)[0])]
            raise ArtifactError(f"prompt {missing!r} has no embedding", where="text.parquet", fix="prepare again")
        given = Conditioning({name: torch.from_numpy(values[rows]) for name, values in self.values.items()})
        places = {name: place for place, name in enumerate(unique)}
        return given[[places[name] for name in hashes]].to(self.device, self.dtype)

    @cached_property
    def empty(self) -> Conditioning:
        """One row: what guidance compares with, and what a dropped caption is."""
        return self.of([prompt_hash("")])


@dataclass(frozen=True)
class PromptEncoder:
    """A pipeline's text encoders in float32, and its tokenizers."""

    family: Family
    pipeline: Any  # of the family's class, its text parts alone
    shapes: Mapping[str, Shape]  # of one encoded prompt

    @classmethod
    def load(cls, folder: Path, *, device: str) -> PromptEncoder:
        disable_progress_bar()  # transformers' own; the room tells its progress itself
        diffusers.utils.logging.disable_progress_bar()
        logging.getLogger("diffusers.pipelines").setLevel(logging.ERROR)  # a line for each prompt that is cut
        family = family_of(folder)
        there = components(folder)
        left_out: dict[str, Any] = {name: None for name in there if name not in family.text_parts}
        if absent := [name for name in family.optional if name not in there]:  # their place is filled by its config
            left_out |= {**dict.fromkeys(absent), family.denoiser: denoiser_without_weights(folder)}
        try:
            pipeline = getattr(diffusers, family.pipeline).from_pretrained(folder, dtype=torch.float32, **left_out)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).partition("\n")[0]
            raise ArtifactError(
                f"cannot load the text encoder: {reason}", where=str(folder), fix="restore the folder"
            ) from error
        for name in family.text_parts:
            part = getattr(pipeline, name, None)
            if isinstance(part, torch.nn.Module):
                part.to(device).eval().requires_grad_(False)
        return cls(family, pipeline, family.given_shapes(read_configs(folder)))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """B prompts in float32; those that are too long are cut, as the pipeline does.

        The empty prompt is what guidance compares with: zeros in SDXL's base.
        """
        given = Conditioning(self.family.encode(self.pipeline, prompts))
        nothing = self.family.encode_nothing(self.pipeline) if "" in prompts else None
        if nothing is None:
            return given
        return given.where(torch.tensor([prompt != "" for prompt in prompts]), Conditioning(nothing))


def token_counter(folder: Path) -> Callable[[list[str]], list[int]]:
    """Counts the tokens of prompts by a pipeline's own tokenizer, start and end among them, not cut off."""
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"cannot load the tokenizer: {reason}", where=str(folder), fix="restore it") from error
    return lambda prompts: [len(ids) for ids in tokenizer(prompts, truncation=False, verbose=False).input_ids]
