"""What a key of the config means, read off the model itself, so that it cannot grow stale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from spin.core.config_file import yaml_text
from spin.core.config_messages import config_keys, unknown_key
from spin.core.config_sections import Config
from spin.core.errors import ConfigError

_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}

_KEYWORDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}


@dataclass(frozen=True)
class Explanation:
    """One key in words; a section has its keys as limits, and neither default nor source."""

    key: str
    meaning: str
    type: str
    default: str
    limits: str
    source: str


_PRESET = Explanation(
    "preset",
    meaning="preset that a file starts from; its own keys are laid over it",
    type="text or null",
    default="null",
    limits="the name of a preset",
    source="a choice of this project",
)


def explain(key: str) -> Explanation:
    """Meaning, type, default, limits and source of a key such as train.beta, or of a section such as train."""
    if key == "preset":
        return _PRESET
    if key not in config_keys():
        raise ConfigError(unknown_key(key), where=key)
    section, _, name = key.rpartition(".")
    if not section and "$ref" in _properties("")[key]:
        limits = f"keys: {', '.join(_properties(key))}"
        return Explanation(key, meaning=_meaning_of(key), type="section", default="", limits=limits, source="")
    field = _properties(section)[name]
    return Explanation(
        key,
        meaning=field["description"],
        type=_type(field),
        default=yaml_text(field["default"]),
        limits=_limits(field),
        source=field["source"],
    )


def limits_of(key: str) -> dict[str, float]:
    """Limits of a number as keywords of a pydantic field: {"ge": 0, "le": 99} for iterations."""
    section, _, name = key.rpartition(".")
    field = _properties(section)[name]
    branches = field.get("anyOf") or field.get("oneOf") or [field]
    return {_KEYWORDS[word]: branch[word] for branch in reversed(branches) for word in _KEYWORDS if word in branch}


@cache
def _schema() -> Mapping[str, Any]:
    return Config.model_json_schema()


def _section_schema(section: str) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = _schema()
    if section:
        schema = schema["$defs"][schema["properties"][section]["$ref"].rpartition("/")[2]]
    return schema


def _properties(section: str) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = _section_schema(section)["properties"]
    return properties


def _meaning_of(section: str) -> str:
    return str(_section_schema(section)["description"])


def _type(field: Mapping[str, Any]) -> str:
    branches = field.get("anyOf") or field.get("oneOf")
    if branches:
        return " or ".join(_type(branch) for branch in branches)
    if "const" in field:
        return str(field["const"])
    if "enum" in field:
        return f"one of {', '.join(field['enum'])}"
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])} numbers"
    if field["type"] == "array":
        items = field["items"]
        return f"list of {', '.join(items['enum'])}" if "enum" in items else "list with one for each iteration"
    return _WORDS[field["type"]]


def _limits(field: Mapping[str, Any]) -> str:
    if "limits" in field:
        return str(field["limits"])
    branches = field.get("anyOf") or field.get("oneOf") or [field]
    found = {name: branch[name] for branch in branches for name in (*_LIMITS, "multipleOf") if name in branch}
    words = [f"{_LIMITS[name]} {yaml_text(found[name])}" for name in _LIMITS if name in found]
    if "multipleOf" in found:
        words.append(f"a multiple of {found['multipleOf']}")
    return ", ".join(words)
