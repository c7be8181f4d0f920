"""What a caption must be: text with something to see in it."""

from __future__ import annotations

import unicodedata

from spin.core.rejecting import Rejected
from spin.prepare.candidates import NO_CAPTION, NOT_TEXT


def clean_caption(value: object) -> str:
    """Unicode NFC, one line, single spaces, no control characters and no lone surrogates.

    Joiners (zero-width, category Cf) stay: emoji and Persian need them. What has nothing but them is blank.
    """
    if value is None:
        raise Rejected(NO_CAPTION, "missing")
    if not isinstance(value, str):
        raise Rejected(NOT_TEXT, f"{type(value).__name__} {_shortened(repr(value))}")
    visible = "".join(" " if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in value)
    caption = " ".join(unicodedata.normalize("NFC", visible).split())
    if all(unicodedata.category(letter)[0] in "CZ" for letter in caption):
        raise Rejected(NO_CAPTION, "empty" if not value else "only blanks")
    return caption


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
