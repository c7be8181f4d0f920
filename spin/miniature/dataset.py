"""The target data of the miniature: the real pictures that self-play learns from, ONE per caption.

`winners` are the best of three draws from a better web than the base's own (quality below 0.9 against
0.6, 5 % of attributes wrong against 12 %), as Pick-a-Pic's come from better models than SD-1.5; `clean`
ones are faultless. Held-out pictures follow the same law. A picture is a function of its caption alone,
so all runs share one cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from spin.core.plan import seed_of
from spin.miniature.renderer import Pixels, render
from spin.miniature.world import BACKGROUNDS, COLOURS, SHAPES, SIZES, Attributes, Split, parse_caption, split_attributes

Target = Literal["winners", "clean"]

DATA_SEED: Final = 2402_10210  # fixed: the data must not depend on a run's seed
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
WRONG_SHARE: Final = 0.05  # probability that one attribute of a winner is not as said

_WORDS: Final = {"size": tuple(SIZES), "colour": tuple(COLOURS), "shape": SHAPES, "background": tuple(BACKGROUNDS)}


@dataclass(frozen=True)
class TargetPicture:
    """One real picture: what is said of it, what it shows, how good it is; RGB pixels (32, 32, 3)."""

    caption: str
    split: Split
    shown: Attributes
    quality: float
    pixels: Pixels


def target_pictures(target: Target, *, train_rows: int | None = None) -> Iterator[TargetPicture]:
    """All pictures in the order train, validation, test; `train_rows` keeps the first of the 384 train rows."""
    for said, split in _captions(train_rows):
        yield draw_picture(said, split=split, target=target)


def loser_pictures(*, train_rows: int | None = None) -> Iterator[TargetPicture]:
    """The loser of each winner, in the same order."""
    for said, split in _captions(train_rows):
        yield draw_loser(said, split=split)


def draw_picture(said: Attributes, *, split: Split, target: Target) -> TargetPicture:
    """The one real picture of a caption.

    winners: quality = max of three U(0, 0.9), mean 0.675; each attribute another one with 5 %
    clean:   quality = U(0.8, 1), mean 0.9; shown as said
    """
    rng = _generator("miniature data", said)
    if target == "winners":
        quality, shown = float(_three_qualities(rng).max()), misdraw(said, WRONG_SHARE, rng)
    else:
        quality, shown = float(rng.uniform(0.8, 1.0)), said
    pixels = render([shown], np.array([quality]), rng)[0]
    return TargetPicture(said.caption, split, shown, quality, pixels)


def draw_loser(said: Attributes, *, split: Split) -> TargetPicture:
    """The dispreferred picture of a caption: one of the two draws that the winner was better than.

    Mean quality 0.9 * 3/8 = 0.3375, the mean of the lower two of three U(0, 0.9); attributes wrong as a winner's. All
    but the three qualities comes from a generator of its own, so the winners keep their pixels.
    """
    beaten = np.sort(_three_qualities(_generator("miniature data", said)))[:2]
    rng = _generator("miniature loser", said)
    quality = float(beaten[int(rng.integers(2))])
    shown = misdraw(said, WRONG_SHARE, rng)
    return TargetPicture(said.caption, split, shown, quality, render([shown], np.array([quality]), rng)[0])


def clean_reference(captions: Sequence[str], *, copies: int = 4) -> Pixels:
    """Faultless pictures of the captions, `copies` each: where the Frechet distance to the clean world is 0."""
    rng = np.random.default_rng(DATA_SEED)
    known = [parsed for caption in captions if (parsed := parse_caption(caption)) is not None]
    shown = [attributes for attributes in known for _ in range(copies)]
    return render(shown, rng.uniform(0.8, 1.0, len(shown)), rng)


def misdraw(said: Attributes, share: float, rng: np.random.Generator) -> Attributes:
    """What a careless painter shows: each attribute is another word with probability `share`."""
    wrong = {}
    for name, words in _WORDS.items():
        others = [word for word in words if word != getattr(said, name)]
        if rng.random() < share:
            wrong[name] = others[int(rng.integers(len(others)))]
    return replace(said, **wrong)


def _captions(train_rows: int | None) -> Iterator[tuple[Attributes, Split]]:
    for split in SPLITS:
        for said in split_attributes(split)[: train_rows if split == "train" else None]:
            yield said, split


def _generator(purpose: str, said: Attributes) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed_of(purpose, DATA_SEED, said.caption)))


def _three_qualities(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Of the three draws that a winner is the best of, (3,); the first that a caption's generator gives."""
    return rng.uniform(0.0, 0.9, 3)
