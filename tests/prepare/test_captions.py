from __future__ import annotations

import unicodedata

import pytest

from spin.core.rejecting import Rejected
from spin.prepare.candidates import NO_CAPTION, NOT_TEXT
from spin.prepare.captions import clean_caption


@pytest.mark.parametrize("value", [None, "", "   ", "\t\n\r", "\u00a0\u2003", "\x00\x07", "\u200b\u200d", "\ud800"])
def test_a_caption_without_anything_to_see_is_rejected(value: str | None) -> None:
    with pytest.raises(Rejected) as caught:
        clean_caption(value)
    assert caught.value.reason == NO_CAPTION


@pytest.mark.parametrize("value", [7, 0.5, True, ["a cat"], {"en": "a cat"}, b"\xff\xfe\x00"])
def test_a_caption_that_is_no_text_is_rejected_with_its_type(value: object) -> None:
    with pytest.raises(Rejected) as caught:
        clean_caption(value)
    assert caught.value.reason == NOT_TEXT
    assert type(value).__name__ in caught.value.detail


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("a cat", "a cat"),
        ("  a\n\tcat \r\n", "a cat"),
        ("a\x00cat\x1b", "a cat"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\u2028cat", "a cat"),
        ("bad \ud83d half", "bad half"),
        ("\U0001f469\u200d\U0001f680 flies", "\U0001f469\u200d\U0001f680 flies"),
        ("NA", "NA"),
        ("null", "null"),
        ("!", "!"),
        ("x\u00b2 \ufb01sh", "x\u00b2 \ufb01sh"),  # NFC, not NFKC: what is meant stays
    ],
)
def test_captions_become_one_clean_line(value: str, cleaned: str) -> None:
    assert clean_caption(value) == cleaned


def test_cleaning_a_clean_caption_changes_nothing() -> None:
    letters = [chr(code) for code in range(0x20, 0x3000, 7)]
    for start in range(0, len(letters) - 20, 20):
        caption = clean_caption("x" + "".join(letters[start : start + 20]))
        assert clean_caption(caption) == caption
        assert unicodedata.is_normalized("NFC", caption)
        caption.encode("utf-8")
