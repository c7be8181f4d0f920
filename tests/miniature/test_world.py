from __future__ import annotations

import hashlib

import pytest

from spin.miniature.world import (
    Attributes,
    all_attributes,
    parse_caption,
    pretraining_attributes,
    split_attributes,
)

SPLITS = ("train", "validation", "test")


def test_there_are_768_captions_and_each_reads_back() -> None:
    everything = all_attributes()
    assert len({a.caption for a in everything}) == len(everything) == 2 * 8 * 6 * 8
    assert all(parse_caption(a.caption) == a for a in everything)


def test_a_caption_is_a_sentence() -> None:
    assert Attributes("large", "red", "star", "navy").caption == "a large red star on a navy background"


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "a huge red star on a navy background",
        "a large red star on a pink background",
        "a large red star",
        "A large red star on a navy background",
        "a large red star on a navy background ",
    ],
)
def test_other_sentences_are_not_of_this_world(sentence: str) -> None:
    assert parse_caption(sentence) is None


def test_indices_point_into_the_word_tables() -> None:
    assert Attributes("small", "red", "circle", "white").indices == (0, 0, 0, 0)
    assert Attributes("large", "pink", "ring", "brown").indices == (1, 7, 5, 7)


def test_the_splits_are_disjoint_and_cover_the_world() -> None:
    parts = [split_attributes(split) for split in SPLITS]
    assert [len(part) for part in parts] == [384, 128, 256]
    assert sorted(a for part in parts for a in part) == sorted(all_attributes())


def test_the_splits_are_fixed_for_ever() -> None:
    text = "\n".join(a.caption for split in SPLITS for a in split_attributes(split))
    # python -c: sha256 of all captions in the order of the splits, one a line
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "3403fe8f059192b4"


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'; one of train, validation, test"):
        split_attributes("dev")


def test_every_word_stands_in_every_split() -> None:
    for split in SPLITS:
        words = {word for a in split_attributes(split) for word in a.caption.split()}
        assert len(words) == 3 + 2 + 8 + 6 + 8


def test_the_base_has_not_seen_96_held_out_captions() -> None:
    unseen = set(all_attributes()) - set(pretraining_attributes())
    assert len(unseen) == 96
    assert len(unseen & set(split_attributes("validation"))) == 32
    assert len(unseen & set(split_attributes("test"))) == 64
