"""What a prompt must be: one line of readable text, normalised so that the same prompt has one identity.

Normalising takes nothing from a model: CLIP's tokenizer itself makes text NFC and every run of blanks one
space (its normalizer in `transformers`). But the hash of a prompt must not depend on whether a file came
from a system that stores e-acute as one code point or as two. Upper and lower case stay apart: published
lists hold prompts that differ in nothing else.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from spin.core.plan import prompt_hash

CLIP_TOKENS: Final = 77  # what CLIP's text encoders see, start and end token among them
MISSING: Final = "missing"
EMPTY: Final = "empty"
NOT_TEXT: Final = "not text"
NOT_UTF8: Final = "not UTF-8"
CONTROL: Final = "control character"
TOO_LONG: Final = "too long"
UNREADABLE: Final = "unreadable row"
DUPLICATE: Final = "duplicate"
LONGEST: Final = 10_000  # characters; 77 tokens are about 350, the rest is never seen
_BLANKS: Final = frozenset("\t\n\v\f\r\x85")  # controls that CLIP reads as a space, as it does every blank
_ESCAPED: Final = range(0xDC80, 0xDD00)  # bytes that are not UTF-8, as errors="surrogateescape" keeps them


@dataclass(frozen=True)
class PromptRecord:
    """A row as it was found, before anybody looked at it."""

    origin: str  # file and row
    prompt: object
    category: object = None
    challenge: object = None
    column: str | None = None  # that the prompt stood in
    problem: str | None = None  # why the row cannot be read at all


class BadPrompt(Exception):
    """A row that cannot be used: `reason` is counted, `detail` is for whoever mends it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def clean_prompt(value: object) -> str:
    """Unicode NFC on one line with single spaces; raises BadPrompt where nothing can be drawn from it."""
    if value is None:
        raise BadPrompt(MISSING, "no value")
    if not isinstance(value, str):
        raise BadPrompt(NOT_TEXT, f"{type(value).__name__} {shortened(repr(value))}")
    if len(value) > LONGEST:
        raise BadPrompt(TOO_LONG, f"{len(value)} characters, more than {LONGEST}: {shortened(ascii(value[:80]))}")
    if not value.isprintable():  # blanks other than the space are among what is not
        _refuse_controls(value)
    prompt = " ".join(unicodedata.normalize("NFC", value).split())
    if all(unicodedata.category(letter)[0] in "CZ" for letter in prompt):  # joiners alone show nothing
        raise BadPrompt(EMPTY, "no text" if not value else "only blanks")
    return prompt


def prompt_id(prompt: str) -> str:
    """Identity of a normalised prompt, 32 hex digits; what its text embedding is looked up by, too."""
    return prompt_hash(prompt)


def clean_label(value: object) -> str | None:
    """A category as text; None where there is none. Labels group scores and are never drawn."""
    if value is None:
        return None
    text = "".join(" " if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in str(value))
    return " ".join(unicodedata.normalize("NFC", text).split())[:200] or None


def shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_controls(value: str) -> None:
    for position, letter in enumerate(value, 1):
        kind = unicodedata.category(letter)
        if kind == "Cs":
            name = f"byte 0x{ord(letter) - 0xDC00:02X}" if ord(letter) in _ESCAPED else f"U+{ord(letter):04X}"
            raise BadPrompt(NOT_UTF8, f"{name} at character {position}: {shortened(ascii(value))}")
        if kind == "Cc" and letter not in _BLANKS:
            raise BadPrompt(CONTROL, f"U+{ord(letter):04X} at character {position}: {shortened(ascii(value))}")
