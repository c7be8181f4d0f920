from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from spin.core.plan import seed_of
from spin.miniature.attribute_checker import check_attributes
from spin.miniature.dataset import DATA_SEED, Target, TargetPicture, draw_picture, loser_pictures, target_pictures
from spin.miniature.world import parse_caption, split_attributes


@cache
def pictures(target: Target) -> tuple[TargetPicture, ...]:
    return tuple(target_pictures(target))


def test_every_caption_has_one_picture_in_the_order_of_the_splits() -> None:
    expected = [(a.caption, split) for split in ("train", "validation", "test") for a in split_attributes(split)]
    assert [(p.caption, p.split) for p in pictures("winners")] == expected
    assert len(expected) == 384 + 128 + 256


def test_rows_shorten_only_the_train_split() -> None:
    few = list(target_pictures("winners", train_rows=5))
    assert [sum(p.split == split for p in few) for split in ("train", "validation", "test")] == [5, 128, 256]
    assert [p.caption for p in few[:5]] == [p.caption for p in pictures("winners")[:5]]


def test_a_picture_depends_on_its_caption_alone() -> None:
    said = split_attributes("test")[17]
    again = draw_picture(said, split="test", target="winners")
    assert np.array_equal(again.pixels, pictures("winners")[384 + 128 + 17].pixels)


def test_a_picture_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib; from spin.miniature.dataset import target_pictures as t;"
        "print(hashlib.sha256(b''.join(p.pixels.tobytes() for p in t('clean', train_rows=9))).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    chosen = (*pictures("clean")[:9], *pictures("clean")[384:])
    assert printed == hashlib.sha256(b"".join(p.pixels.tobytes() for p in chosen)).hexdigest()


def test_winners_are_the_best_of_three_draws() -> None:
    quality = np.array([p.quality for p in pictures("winners")])
    # The maximum of three U(0, 0.9) has mean 0.9 * 3/4 = 0.675 and deviation 0.9 * sqrt(3/80) = 0.174.
    assert quality.mean() == pytest.approx(0.675, abs=4 * 0.174 / np.sqrt(768))
    assert quality.min() > 0
    assert quality.max() < 0.9


def test_clean_pictures_are_good_and_show_what_is_said() -> None:
    quality = np.array([p.quality for p in pictures("clean")])
    assert quality.min() >= 0.8
    assert quality.mean() == pytest.approx(0.9, abs=0.01)
    assert all(p.shown.caption == p.caption for p in pictures("clean"))


def test_five_percent_of_the_winners_attributes_are_wrong() -> None:
    said = [parse_caption(p.caption) for p in pictures("winners")]
    wrong = [
        a.indices[i] != p.shown.indices[i] for p in pictures("winners") for a in [said.pop(0)] if a for i in range(4)
    ]
    assert len(wrong) == 4 * 768
    assert np.mean(wrong) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / len(wrong)))


def test_held_out_pictures_follow_the_law_of_the_train_split() -> None:
    train = np.array([p.quality for p in pictures("winners") if p.split == "train"])
    held_out = np.array([p.quality for p in pictures("winners") if p.split != "train"])
    assert train.mean() == pytest.approx(held_out.mean(), abs=4 * 0.174 * np.sqrt(2 / 384))


def test_pixels_show_the_attributes() -> None:
    chosen = pictures("clean")[:200]
    assert check_attributes(np.stack([p.pixels for p in chosen]), [p.shown for p in chosen]).mean() > 0.97


@cache
def losers() -> tuple[TargetPicture, ...]:
    return tuple(loser_pictures())


def test_the_pictures_are_those_that_every_cache_was_made_from() -> None:
    """Their pixels decide the data's digest: with losers beside them nothing of them may move."""
    made = {
        target: hashlib.sha256(b"".join(p.pixels.tobytes() for p in pictures(target))).hexdigest()[:16]
        for target in ("winners", "clean")
    }
    assert made == {"winners": "e18a3f13d10bd3f4", "clean": "6885885cff7570b5"}


def test_a_loser_is_one_of_the_two_draws_that_its_winner_beat() -> None:
    assert [(p.caption, p.split) for p in losers()] == [(p.caption, p.split) for p in pictures("winners")]
    ranks = []
    for winner, loser in zip(pictures("winners"), losers(), strict=True):
        rng = np.random.Generator(np.random.Philox(seed_of("miniature data", DATA_SEED, winner.caption)))
        low, middle, high = sorted(rng.uniform(0.0, 0.9, 3).tolist())
        assert winner.quality == high
        assert loser.quality in (low, middle)
        ranks.append(loser.quality == middle)
    assert np.mean(ranks) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(768))
    # the lower two of three U(0, 0.9) have the means 0.225 and 0.45: 0.3375 between them
    assert np.mean([p.quality for p in losers()]) == pytest.approx(0.3375, abs=0.03)


def test_a_loser_shares_no_random_number_but_the_qualities_with_its_winner() -> None:
    wrong = [
        (winner.shown.caption != winner.caption, loser.shown.caption != loser.caption)
        for winner, loser in zip(pictures("winners"), losers(), strict=True)
    ]
    both, expected = np.mean([a and b for a, b in wrong]), (1 - 0.95**4) ** 2
    assert both == pytest.approx(expected, abs=4 * np.sqrt(expected / 768))
