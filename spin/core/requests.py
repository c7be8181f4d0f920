"""Requests and results as JSON: how a room in a process of its own is asked, and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from spin.core.errors import ConfigError

Message = TypeVar("Message")


def to_json(message: Any) -> bytes:
    """A frozen dataclass as JSON."""
    return TypeAdapter(type(message)).dump_json(message, indent=1)


def from_json(kind: type[Message], path: Path) -> Message:
    """Read a frozen dataclass back; every field is checked, and none may be unknown."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), fix="name a request file") from error
    return from_text(kind, text, where=str(path))


def from_text(kind: type[Message], text: str | bytes, *, where: str) -> Message:
    """A frozen dataclass from its JSON; `where` is named in an error."""
    try:
        message = TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "text"
        problem = f"is no {kind.__name__}: {field}: {first['msg']}".splitlines()[0]
        raise ConfigError(problem, where=where, fix="mend that field") from None
    unknown = _unknown(json.loads(text), json.loads(to_json(message)))
    if unknown:
        raise ConfigError(f"is no {kind.__name__}: {unknown}: unknown field", where=where, fix="take that field out")
    return message


def _unknown(given: Any, understood: Any, prefix: str = "") -> str:
    """Name of the first field that was given and not understood; empty where there is none."""
    if not isinstance(given, dict) or not isinstance(understood, dict):
        return ""
    for name, value in given.items():
        if name not in understood:
            return prefix + name
        if found := _unknown(value, understood[name], f"{prefix}{name}."):
            return found
    return ""
