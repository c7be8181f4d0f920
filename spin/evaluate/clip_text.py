"""CLIP's tokenizer, as transformers has it."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import gzip
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from transformers import CLIPTokenizer

_MERGES: Final = 49152 - 256 - 2  # of the packaged table, as in OpenAI's tokenizer; behind them it has unused ones


def clip_tokenizer() -> CLIPTokenizer:
    """transformers' fast CLIP tokenizer from the vocabulary inside open_clip's package: nothing to download.

    open_clip's own tokenizer cleans text otherwise: its ids differ on unicode, HTML and mojibake prompts.
    """
    merges = _merges()
    symbols = list(_byte_symbols())
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(merge) for merge in merges)]
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


@cache
def _merges() -> list[tuple[str, str]]:
    table = gzip.decompress((files("open_clip") / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode("utf-8")
    pairs = (line.split() for line in table.split("\n")[1 : _MERGES + 1])
    return [(first, second) for first, second in pairs]


def _byte_symbols() -> Sequence[str]:
    """A printable character for each of the 256 bytes, in the order of GPT-2's byte-level vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
