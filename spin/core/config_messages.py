"""What pydantic finds wrong with a config, said in words of the config."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from spin.core.config_file import KeyPath, yaml_text
from spin.core.config_sections import Config
from spin.core.config_training import TAGS

_SCALAR: Final = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?|true|false")
_MANY_KEYS: Final = 12  # more are not listed in one line
_LIMITS: Final = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_WANTED: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_unicode": "text in UTF-8",
    "tuple_type": "a list",
    "model_type": "a section with keys",
    "finite_number": "a finite number",
}


@cache
def config_keys() -> tuple[str, ...]:
    """Every key of the config, sections before their own keys."""
    keys: list[str] = []
    for section, value in Config().model_dump().items():
        keys.append(section)
        keys += [f"{section}.{name}" for name in value] if isinstance(value, dict) else []
    return tuple(keys)


def did_you_mean(wrong: str, known: Iterable[str]) -> str | None:
    """The known word nearest to `wrong`, None if none is near."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(wrong.lower(), lowered, n=1, cutoff=0.6)
    return lowered[near[0]] if near else None


def unknown_key(key: str) -> str:
    """The message for a key that does not exist, with the nearest one that does."""
    section, _, name = key.rpartition(".")
    siblings = [known.rpartition(".")[2] for known in config_keys() if known.rpartition(".")[0] == section]
    siblings += [] if section else ["preset"]
    elsewhere = [known for known in config_keys() if known.rpartition(".")[2] == name]
    near = did_you_mean(name, siblings)
    if near is not None:
        elsewhere = [near]
    elif not elsewhere and not siblings:
        elsewhere = [word for word in [did_you_mean(key, config_keys())] if word]
    if elsewhere:
        return f"unknown key; did you mean {' or '.join(map(repr, elsewhere))}?"
    listed = 0 < len(siblings) <= _MANY_KEYS
    return f"unknown key; {section or 'the top level'} has {', '.join(siblings)}" if listed else "unknown key"


def short(value: object) -> str:
    """A value as it is echoed in a message, at most about 40 characters."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return f"a list of {len(value)}"
        case Mapping():
            return f"keys ({', '.join(map(str, value))[:30]})" if value else "keys"
        case int() if value.bit_length() > 128:
            return "a number of more than 38 digits"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"


def problems_of(error: ValidationError) -> list[tuple[KeyPath, str]]:
    """Path and message of each problem; rules between settings (an empty path) are left to `broken_rules`."""
    found = []
    for item in error.errors(include_url=False):
        path = tuple(part for part in item["loc"] if part not in TAGS)
        only_bad_items = item["type"] == "too_short" and len(item["input"]) > 0  # pydantic counts what is left
        if path and not only_bad_items:
            found.append((path, _message(item, path)))
    return found


def _message(item: ErrorDetails, path: KeyPath) -> str:
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(".".join(map(str, path)))
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _wrong_choice(re.findall(r"'([^']*)'", context["expected"]), value)
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return f"must be {words} {yaml_text(context[name])}, got {short(value)}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters, got {len(value)}"
    if kind in _WANTED:
        return f"expected {_WANTED[kind]}, got {short(value)}{_quotes(kind, value)}"
    return f"{item['msg'][:1].lower()}{item['msg'][1:]}, got {short(value)}"


def _wrong_choice(choices: list[str], value: object) -> str:
    if len(choices) == 1:
        return f"expected {choices[0]}, got {short(value)}"
    near = did_you_mean(value, choices) if isinstance(value, str) else None
    hint = f"; did you mean {near!r}?" if near else ""
    return f"expected one of {', '.join(choices)}; got {short(value)}{hint}"


def _quotes(kind: str, value: object) -> str:
    """A word on quotes, where they are what is wrong."""
    if kind == "string_type" and isinstance(value, int | float):
        return "; put it in quotes"
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type") and _SCALAR.fullmatch(value):
        return "; remove the quotes"
    return ""
