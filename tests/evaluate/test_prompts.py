from __future__ import annotations

import re

import pytest

from spin.core.plan import prompt_hash
from spin.evaluate.prompts import (
    CONTROL,
    EMPTY,
    LONGEST,
    MISSING,
    NOT_TEXT,
    NOT_UTF8,
    TOO_LONG,
    BadPrompt,
    clean_label,
    clean_prompt,
    prompt_id,
)


def refusal(value: object) -> BadPrompt:
    with pytest.raises(BadPrompt) as caught:
        clean_prompt(value)
    return caught.value


@pytest.mark.parametrize(
    ("value", "prompt"),
    [
        ("a red fox", "a red fox"),
        ("  a \t red\r\nfox\x85 ", "a red fox"),
        ("A Red Fox", "A Red Fox"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\u00a0fox\u3000here\u2028there", "a fox here there"),
        ("\U0001f468\u200d\U0001f469 family", "\U0001f468\u200d\U0001f469 family"),
        ("\u732b", "\u732b"),
    ],
)
def test_a_prompt_is_one_line_of_nfc_with_single_spaces(value: str, prompt: str) -> None:
    assert clean_prompt(value) == prompt
    assert clean_prompt(prompt) == prompt


def test_normalising_takes_nothing_from_what_clip_sees() -> None:
    from tokenizers import Regex, normalizers

    # as CLIPTokenizer of transformers builds it
    clip = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    for value in ("cafe\u0301 \t\r\n au\x0blait", "a\u00a0\u3000b\x85c\u2029d", "\U0001f468\u200d\U0001f469  x"):
        assert clip.normalize_str(clean_prompt(value)) == clip.normalize_str(value)


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (None, MISSING, "no value"),
        (7, NOT_TEXT, "int 7"),
        (["a"], NOT_TEXT, "list"),
        ("", EMPTY, "no text"),
        (" \n\t ", EMPTY, "only blanks"),
        ("\u200b\u200d", EMPTY, "only blanks"),
        ("a \x00 fox", CONTROL, "U+0000 at character 3"),
        ("fox\x1b[2J", CONTROL, "U+001B at character 4"),
        ("a\x1cb", CONTROL, "U+001C"),
        ("caf\udce9", NOT_UTF8, "byte 0xE9 at character 4"),
        ("a\ud800", NOT_UTF8, "U+D800 at character 2"),
        ("x" * (LONGEST + 1), TOO_LONG, "10001 characters"),
    ],
)
def test_what_nothing_can_be_drawn_from_is_refused_with_its_place(value: object, reason: str, words: str) -> None:
    bad = refusal(value)
    assert (bad.reason, words in bad.detail) == (reason, True)
    assert len(bad.detail) < 200
    assert bad.detail.isprintable()


def test_a_prompt_of_the_greatest_length_is_kept() -> None:
    assert len(clean_prompt("x" * LONGEST)) == LONGEST


def test_the_identity_is_that_of_the_text_and_tells_case_apart() -> None:
    ids = {prompt_id(clean_prompt(value)) for value in ("caf\u00e9", "cafe\u0301", " caf\u00e9 ")}
    assert len(ids) == 1
    assert re.fullmatch("[0-9a-f]{32}", ids.pop())
    assert prompt_id("a cat") == prompt_hash("a cat") != prompt_id("A cat")


def test_a_label_is_text_or_nothing() -> None:
    assert [clean_label(value) for value in (None, "", "  ", " Arts\n", 2, "a\x00b\udcff", "x" * 999)] == [
        None, None, None, "Arts", "2", "a b", "x" * 200,
    ]  # fmt: skip
