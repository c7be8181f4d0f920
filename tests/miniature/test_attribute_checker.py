from __future__ import annotations

import numpy as np

from spin.miniature.attribute_checker import check_attributes, read_attributes
from spin.miniature.renderer import render
from spin.miniature.world import Attributes, all_attributes, split_attributes


def accuracy(quality: float) -> np.ndarray:
    shown = all_attributes()[::2]
    pixels = render(shown, np.full(len(shown), quality), np.random.default_rng(0))
    return check_attributes(pixels, shown)


def test_clean_pictures_are_read_without_a_mistake() -> None:
    assert accuracy(1.0).all(axis=1).mean() >= 0.995


def test_worn_pictures_are_read_nearly_as_well() -> None:
    assert accuracy(0.5).all(axis=1).mean() >= 0.95


def test_each_wrong_attribute_is_told_apart() -> None:
    shown = Attributes("large", "red", "star", "navy")
    pixels = render([shown], np.ones(1), np.random.default_rng(0))
    wanted = [
        (Attributes("small", "red", "star", "navy"), [False, True, True, True]),
        (Attributes("large", "blue", "star", "navy"), [True, False, True, True]),
        (Attributes("large", "red", "ring", "navy"), [True, True, False, True]),
        (Attributes("large", "red", "star", "white"), [True, True, True, False]),
        (shown, [True] * 4),
    ]
    for attributes, expected in wanted:
        assert check_attributes(pixels, [attributes])[0].tolist() == expected


def test_a_picture_without_a_shape_gets_some_answer_and_no_error() -> None:
    blank = np.full((2, 32, 32, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for found in read_attributes(np.concatenate([blank, noise])):
        assert found in all_attributes()


def test_a_picture_is_read_the_same_in_any_batch() -> None:
    shown = split_attributes("test")[:8]
    pixels = render(shown, np.full(8, 0.3), np.random.default_rng(0))
    assert read_attributes(pixels) == [read_attributes(pixels[i : i + 1])[0] for i in range(8)]
