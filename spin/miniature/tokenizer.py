"""A CLIPTokenizer with a small vocabulary: whole words of the world, letters for everything else."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from typing import Final

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from spin.miniature.world import BACKGROUNDS, COLOURS, SHAPES, SIZES

MAX_TOKENS: Final = 24  # a caption of the world has 10 to 16 with its start and end

# Words that captions of other data sets are likely to hold; the base knows them no better than letters.
_COMMON_WORDS: Final = [
    "an",
    "the",
    "of",
    "and",
    "in",
    "with",
    "photo",
    "picture",
    "image",
    "drawing",
    "handwritten",
    "written",
    "digit",
    "number",
    "letter",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
]


def world_words() -> list[str]:
    """Every word that a caption of the world can hold, in a fixed order."""
    return ["a", "on", "background", *SIZES, *COLOURS, *SHAPES, *BACKGROUNDS]


def build_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE whose merges spell the known words; any other text falls back to bytes.

    Merges of early words come first: "red" takes the "re" of "green", so green and black are four tokens
    each and the base has learned them so.
    """
    alphabet = sorted(ByteLevel.alphabet())
    symbols = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges: dict[tuple[str, str], None] = {}
    for word in [*world_words(), *_COMMON_WORDS]:
        left, *rest = [*word[:-1], word[-1] + "</w>"]
        for right in rest:
            merges[left, right] = None
            left += right
    symbols += dict.fromkeys(left + right for left, right in merges)
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=MAX_TOKENS)
