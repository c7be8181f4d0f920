"""Requests and results as JSON: how a room in a process of its own is asked, and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

Message = TypeVar("Message")


def to_json(message: Any) -> bytes:
    """A frozen dataclass as JSON."""
    return TypeAdapter(type(message)).dump_json(message, indent=1)


def from_json(kind: type[Message], path: Path) -> Message:
    """Read a frozen dataclass back; every field is checked."""
    return TypeAdapter(kind).validate_json(path.read_bytes())
