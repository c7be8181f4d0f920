"""What a caption must be: text with something to see in it; and which of several a row has."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from spin.core.plan import seed_of
from spin.core.rejecting import Rejected
from spin.prepare.candidates import NO_CAPTION, NOT_TEXT, Candidate

Captions = Literal["one", "first", "all", "drawn"]


@dataclass(frozen=True)
class Several:
    """Captions of one picture, of which its bytes draw one."""

    texts: tuple[str, ...]

    def drawn(self, picture: bytes) -> str:
        """A function of the picture, whatever its file is called and wherever its row stands."""
        return self.texts[seed_of("caption", hashlib.sha256(picture).hexdigest()) % len(self.texts)]


def clean_caption(value: object) -> str:
    """Unicode NFC, one line, single spaces, no control characters and no lone surrogates.

    Joiners (zero-width, category Cf) stay: emoji and Persian need them. What has nothing but them is blank.
    """
    if value is None:
        raise Rejected(NO_CAPTION, "missing")
    if not isinstance(value, str):
        hint = "; data.captions says which of several" if isinstance(value, list) else ""
        raise Rejected(NOT_TEXT, f"{type(value).__name__} {_shortened(repr(value))}{hint}")
    visible = "".join(" " if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in value)
    caption = " ".join(unicodedata.normalize("NFC", visible).split())
    if all(unicodedata.category(letter)[0] in "CZ" for letter in caption):
        raise Rejected(NO_CAPTION, "empty" if not value else "only blanks")
    return caption


def settle(value: object, picture: bytes) -> str:
    """The caption of a picture that was read."""
    return value.drawn(picture) if isinstance(value, Several) else clean_caption(value)


def text_of(content: bytes) -> str | bytes:
    """What a .txt holds; its bytes where they are no UTF-8 text, and so no caption."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content


def as_captions(text: object, captions: Captions) -> object:
    """What a .txt holds: one caption whatever its lines, or where a row may have several, one a line."""
    return text.splitlines() if captions != "one" and isinstance(text, str) else text


def told_apart(candidate: Candidate, captions: Captions) -> Iterator[Candidate]:
    """The rows that a candidate with a list of captions stands for; one with a single caption is itself.

    Blank captions of a list are passed over; a list of nothing else, or of something else, is a bad row.

    Args:
        captions: one: a list is a bad row; first: the first of it; all: a row for each, which are called NAME#1,
            NAME#2; drawn: one, drawn by the picture.
    """
    if captions == "one" or not isinstance(candidate.caption, list):
        yield candidate
        return
    try:
        texts = tuple(_said(candidate.caption))
    except Rejected:
        yield candidate  # whoever judges it meets the list
        return
    if not texts:
        yield replace(candidate, caption="")
    elif captions == "all":
        numbered = enumerate(texts, 1)
        yield from (replace(candidate, origin=f"{candidate.origin}#{n}", caption=text) for n, text in numbered)
    else:
        yield replace(candidate, caption=texts[0] if captions == "first" else Several(texts))


def _said(values: list[object]) -> Iterator[str]:
    for value in values:
        try:
            yield clean_caption(value)
        except Rejected as error:
            if error.reason != NO_CAPTION:
                raise


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
