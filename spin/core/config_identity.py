"""What makes two configs the same run: canonical JSON, a hash, and the list of fields in which two differ.

Where and how the work runs does not change what comes out, so `run.root`, `execution.*`, and who decides, looks on
and is told (`gate`, `nightly`, `notification`, `publish`) are left out of hash and difference; `execution.dtype` and
`execution.threads` move bits and stay in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from spin.core.config_sections import Config

ABSENT: Final = "(absent)"

_WITH_EFFECT: Final = ("execution.dtype", "execution.threads")
_WITHOUT_EFFECT: Final = ("run.root", "execution.", "gate.", "nightly.", "notification.", "publish.")


@dataclass(frozen=True)
class FieldChange:
    """A key whose value differs; ABSENT stands for a key that one side lacks."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.old)} -> {_shown(self.new)}"


def config_to_json(config: Config) -> dict[str, Any]:
    """The config as a mapping that `json.dumps` takes; `config_from_mapping` reads it back."""
    return config.model_dump(mode="json")


def settings_with_effect(config: Config) -> dict[str, object]:
    """What makes the run this one, by key such as train.beta."""
    return dict(_leaves(config_to_json(config)))


def config_hash(config: Config) -> str:
    """First 16 hex digits of the sha256 of the config's canonical JSON, without the keys that have no effect."""
    return recorded_hash(config_to_json(config))


def recorded_hash(values: Mapping[str, Any]) -> str:
    """The same of a mapping that stands in a file: keys that are newer than it move nothing."""
    values = dict(_leaves(values))
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def diff_configs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[FieldChange]:
    """Fields in which two `config_to_json` mappings differ, by key; none exactly where the hashes agree."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    changes = (FieldChange(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in sorted(before | after))
    return [change for change in changes if change.old != change.new]


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}.")
        elif key in _WITH_EFFECT or not key.startswith(_WITHOUT_EFFECT):
            yield key, list(value) if isinstance(value, tuple) else value


def _shown(value: object) -> str:
    return ABSENT if value == ABSENT else json.dumps(value)
