"""YAML 1.2 text into plain values, with the line and column of every key, so that a problem can name its place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from spin.core.errors import ConfigError

KeyPath = tuple[str | int, ...]

_MOST_BYTES: Final = 1_000_000  # a config is a few kB; a larger file is a slip (weights, a picture)
_DEEPEST: Final = 20  # the config itself is two levels deep
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, order=True)
class Position:
    """A place a user wrote something: `layer` counts preset, file, overrides; lines and columns count from 1."""

    layer: int
    line: int
    column: int
    label: str

    def __str__(self) -> str:
        return f"{self.label}:{self.line}:{self.column}" if self.line else self.label


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config, in one line."""

    position: Position
    key: str
    message: str

    def __str__(self) -> str:
        said = not self.key or self.position.label.startswith(f"--set {self.key}=")  # the label names the key
        return f"{self.position}: {self.message}" if said else f"{self.position}: {self.key}: {self.message}"


@dataclass(frozen=True)
class Layer:
    """The values of one file (or of one override), where each stands, and what is already known to be wrong."""

    label: str
    index: int
    values: dict[str, Any]
    positions: dict[KeyPath, Position] = field(default_factory=dict)  # of values
    key_positions: dict[KeyPath, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def nearest_place(positions: Mapping[KeyPath, Position], path: KeyPath) -> Position | None:
    """Where a key stands, or else the nearest one above it that was written; None where none was."""
    above = (positions.get(path[:end]) for end in range(len(path), -1, -1))
    return next((place for place in above if place is not None), None)


def in_lines(problems: Iterable[Problem]) -> str:
    """One line for each problem, in the order they were written."""
    return "\n".join(dict.fromkeys(map(str, sorted(problems, key=lambda problem: problem.position))))


def key_text(path: KeyPath) -> str:
    """A key as users write it: ("train", "beta", 1) is train.beta[1]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def yaml_text(value: object) -> str:
    """A value as it is written in YAML on one line: null, true, 0.0003, 1000, words without quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return json.dumps(value)


def read_config_file(path: Path, *, index: int = 0) -> Layer:
    """The layer of a YAML file; ConfigError where there is no readable text."""
    return read_config_text(_read_text(path), label=str(path), index=index)


def read_config_text(text: str, *, label: str, index: int = 0) -> Layer:
    """The layer of YAML text that holds a mapping; `label` names it in problems."""
    layer = Layer(label=label, index=index, values={})
    node = _compose(text, label)
    if node is None:
        raise ConfigError("the file is empty", where=label, fix="write some keys, or 'preset: miniature'")
    if not isinstance(node, MappingNode):
        place = Position(index, node.start_mark.line + 1, node.start_mark.column + 1, label)
        raise ConfigError("expected keys such as 'iterations: 3' or 'train:'", where=str(place))
    layer.positions[()] = Position(index, 1, 1, label)
    layer.values.update(_Builder(layer).pairs(node, ()))
    return layer


def parse_value(text: str, *, label: str, path: tuple[str, ...], index: int) -> Layer:
    """The layer of one override: `text` is a YAML value for the key at `path`; no line, the label is the place."""
    layer = Layer(label=label, index=index, values={})
    if text.strip().startswith("*"):  # nightly.cron=*/5 * * * *: words, for one value has no anchors to name
        text = json.dumps(text.strip())
    node = _compose(text, label, in_line=True)
    value = None if node is None else _Builder(layer, in_line=True).build(node, path)
    layer.positions[path] = Position(index, 0, 0, label)
    *above, last = path
    inner = layer.values
    for part in above:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return layer


def _read_text(path: Path) -> str:
    where = str(path)
    if os.path.isdir(path):  # noqa: PTH112  pathlib's own raises on a name that is too long
        inside = sorted(path.glob("*.yaml"))
        such_as = f" such as {inside[0]}" if inside else ""
        raise ConfigError("is a folder", where=where, fix=f"name a YAML file{such_as}")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("no such file", where=where) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", where=where) from error
    if len(data) > _MOST_BYTES:
        raise ConfigError("is larger than 1 MB", where=where, fix="name a YAML config")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"not UTF-8: byte 0x{data[error.start]:02x}", where=f"{where}:{line}", fix="save the file as UTF-8"
        ) from None


def _compose(text: str, label: str, *, in_line: bool = False) -> Node | None:
    """The tree of nodes of `text`, None for nothing."""
    try:
        return YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = label if mark is None or in_line else f"{label}:{mark.line + 1}:{mark.column + 1}"
        reason = f" {error.context}," if error.context else ""
        raise ConfigError(f"not valid YAML:{reason} {error.problem}", where=place) from None
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        place = label if in_line else f"{label}:{line}:{column}"
        raise ConfigError(f"not valid YAML: character U+{ord(text[error.position]):04X}", where=place) from None
    except RecursionError:
        raise ConfigError("not valid YAML: nested too deeply", where=label) from None
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}", where=label) from None


class _Builder:
    """Turns nodes into values: no tags, no aliases, no key twice; what is wrong is noted, and the walk goes on."""

    def __init__(self, layer: Layer, *, in_line: bool = False) -> None:
        self._layer = layer
        self._in_line = in_line
        self._seen: set[int] = set()

    def build(self, node: Node, path: KeyPath) -> object:
        self._layer.positions[path] = self._place(node)
        if id(node) in self._seen:
            message = "anchors and aliases are not read; write the value itself"
            return self._refuse(node, path, message, place=self._layer.key_positions.get(path))  # a node has one mark
        self._seen.add(id(node))
        if len(path) > _DEEPEST:
            return self._refuse(node, path[:2], "nested too deeply")
        if isinstance(node, MappingNode):
            return dict(self.pairs(node, path))
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def pairs(self, node: MappingNode, path: KeyPath) -> Iterator[tuple[str, object]]:
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._refuse(key_node, path, "a key must be one word")
                continue
            key = str(key_node.value)
            if key in first_lines:
                self._refuse(key_node, (*path, key), f"written twice, first in line {first_lines[key]}")
                continue
            first_lines[key] = key_node.start_mark.line + 1
            self._layer.key_positions[(*path, key)] = self._place(key_node)
            yield key, self.build(value_node, (*path, key))

    def _scalar(self, node: ScalarNode, path: KeyPath) -> object:
        text, kind = str(node.value), str(node.tag).removeprefix(_TAG)
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return text.lower() in ("true", "yes", "on")  # yes and on only under %YAML 1.1
                case "int":
                    return _whole_number(text)
                case "float":
                    return _number(text)
                case "str" | "timestamp":
                    return text
        except ValueError:
            return self._refuse(node, path, f"cannot read the number {text[:40]!r}")
        return self._refuse(node, path, f"tag {kind[:40]!r} is not read; write a plain value")

    def _place(self, node: Node) -> Position:
        if self._in_line:
            return Position(self._layer.index, 0, 0, self._layer.label)
        return Position(self._layer.index, node.start_mark.line + 1, node.start_mark.column + 1, self._layer.label)

    def _refuse(self, node: Node, path: KeyPath, message: str, *, place: Position | None = None) -> object:
        """Note a problem; the None returned stands where the value would."""
        self._layer.problems.append(Problem(place or self._place(node), key_text(path), message))
        return None


def _whole_number(text: str) -> int:
    digits = text.replace("_", "")
    prefixed = digits.lstrip("+-").lower().startswith(("0x", "0o", "0b"))
    return int(digits, 0 if prefixed else 10)


def _number(text: str) -> float:
    digits = text.replace("_", "").lower()
    sign = digits[0] if digits[0] in "+-" else ""
    return float(sign + digits.removeprefix(sign).removeprefix(".") if digits.endswith(("inf", "nan")) else digits)
