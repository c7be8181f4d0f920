from __future__ import annotations

import torch

from spin.diffusion.remembering import Remembered


def encoder(calls: list[list[str]]):
    def encode(prompts):
        calls.append(list(prompts))
        return torch.tensor([[float(len(prompt))] for prompt in prompts])

    return encode


def test_a_prompt_is_encoded_once_in_batches_of_one_shape():
    calls: list[list[str]] = []
    text = Remembered(encoder(calls), batch_size=2)
    assert text.of(["a", "bb", "a", "ccc"]).flatten().tolist() == [1, 2, 1, 3]
    assert text.of(["ccc", "a"]).flatten().tolist() == [3, 1]
    assert calls == [["a", "bb"], ["ccc", "ccc"]]
    assert text.encoded == 3


def test_the_least_recently_used_are_forgotten_but_never_those_of_the_call():
    calls: list[list[str]] = []
    text = Remembered(encoder(calls), batch_size=1, most=2)
    text.of(["a", "b"])
    text.of(["a"])
    assert text.of(["c"]).item() == 1
    text.of(["a"])
    assert [call[0] for call in calls] == ["a", "b", "c"]
    assert text.of(["b", "d", "e"]).shape == (3, 1)  # more than are kept
    assert text.encoded == 6


def test_what_is_remembered_keeps_no_padding_in_memory():
    text = Remembered(lambda prompts: torch.zeros(len(prompts), 100), batch_size=16)
    text.of(["a"])
    assert text._known["a"].untyped_storage().nbytes() == 100 * 4


def test_prompts_that_are_announced_go_through_full_passes():
    calls: list[list[str]] = []
    text = Remembered(encoder(calls), batch_size=4)
    text.know(["a", "b", "c", "d", "e"])
    for prompt in "abcde":
        text.of([prompt])
    assert (text.encoded, text.passes) == (5, 2)
    assert calls[0] == ["a", "b", "c", "d"]
