"""The folder that people and the hub get: filled beside its place, put there in one step; what others added stays."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spin.core.draft import draft_path, files, link_or_copy, remove, sweep
from spin.core.errors import ArtifactError, ConfigError

CARD: Final = "README.md"
_MARK: Final = re.compile(r"\n<!-- spin-diffusion publish ([0-9a-f]{16}): ([^\n]*) -->\n\Z")


@dataclass(frozen=True)
class Piece:
    """A file of a run under the name that it is published by."""

    name: str  # relative to the folder
    source: Path
    link: bool = True  # hard-linked: nobody edits it; false for a copy


def refuse_place(into: Path) -> None:
    """A folder is new, empty, or one that `publish` wrote and nobody has edited the card of."""
    if into.exists() and not into.is_dir():
        raise ConfigError("is a file, not a folder", where=str(into), fix="name another folder")
    if not into.is_dir() or not any(into.iterdir()):
        return
    text = _card(into)
    mark = _MARK.search(text)
    if mark is None:
        raise ConfigError("holds other files", where=str(into), fix="name a new folder, or an empty one")
    if mark[1] != _digest(text[: mark.start()]):
        fix = "name another folder, or delete the card to have it written anew"
        raise ConfigError("the card has been edited by hand, which is not overwritten", where=str(into / CARD), fix=fix)


def write_folder(into: Path, pieces: Iterable[Piece], texts: Mapping[str, bytes], *, card: str) -> tuple[str, ...]:
    """Put pieces, texts and the card there, whose names are the answer; what no call of this wrote is kept."""
    draft = draft_path(into)
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        sweep(into)
        draft.mkdir()
        for piece in pieces:
            link_or_copy(piece.source, draft / piece.name, link=piece.link)
        for name, content in texts.items():
            (draft / name).write_bytes(content)
        names = sorted({path.name for path in draft.iterdir()} | {CARD})
        mark = f"\n<!-- spin-diffusion publish {_digest(card)}: {' '.join(names)} -->\n"
        (draft / CARD).write_text(card + mark, "utf-8")
        written = tuple(path.relative_to(draft).as_posix() for path in files(draft))
        for other in others(into, written=names):
            _take_over(other, draft / other.name)
        _swap(draft, into)
        return written
    except OSError as error:
        reason = error.strerror or error
        raise ArtifactError(f"cannot write: {reason}", where=str(into), fix="free space or rights") from error
    finally:
        sweep(into)


def others(into: Path, *, written: Iterable[str] = ()) -> Iterator[Path]:
    """What no call wrote, nor one that is about to write `written`: a licence's text, notes, a clone's .git."""
    mark = _MARK.search(_card(into))
    ours = {*written, *(mark[2].split() if mark else ())}
    if into.is_dir():
        yield from (path for path in sorted(into.iterdir()) if path.name not in ours)


def _take_over(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=_link)
    else:
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    os.link(source, target, follow_symlinks=False)


def _swap(draft: Path, into: Path) -> None:
    if into.exists():
        before = draft.with_name(f"{draft.name}.before")
        into.rename(before)
        draft.rename(into)
        remove(before)
    else:
        draft.rename(into)


def _card(into: Path) -> str:
    try:
        return (into / CARD).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
