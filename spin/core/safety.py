"""What is done about unsafe pictures: what a room is told, and which callable may judge them. No torch.

A callable of the user's takes (B, H, W, 3) uint8 pictures and returns B bools, true for unsafe ones. It is marked as
one, so that a config, which may come from a form on a web page, calls no other function that is installed; the module
that it names is imported, and so runs, before the mark can be seen. Pictures that stand are not looked at again: one
that judges otherwise than before wants another name.

    from spin.core.safety import safety_checker

    @safety_checker
    def bare_skin_2(pictures): ...

    safety: {real: drop, generated: flag, checker: "my_package.my_module:bare_skin_2"}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from spin.core.errors import ConfigError
from spin.core.plan import identity_hash
from spin.core.store import hash_file

Pixels = npt.NDArray[np.uint8]
Judge = Callable[[Pixels], Sequence[bool]]
Function = TypeVar("Function", bound=Judge)

DIFFUSERS: Final = "diffusers"
PARTS: Final = ("safety_checker", "feature_extractor")  # folders of diffusers' checker in a model's
LOOKED_AT_ONCE: Final = 16  # drawn pictures of one size, where they are judged
_MARK: Final = "spin_safety_checker"
_KEY: Final = "safety.checker"


def safety_checker(function: Function) -> Function:
    """Mark a callable that may judge pictures."""
    setattr(function, _MARK, True)
    return function


def marked_function(name: str) -> Judge:
    """A callable by its place, imported; ConfigError where it is not there, or not marked as a checker."""
    module, _, attribute = name.partition(":")
    try:
        function: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}", where=_KEY, fix="install the package, or mend the name") from error
    if not callable(function) or getattr(function, _MARK, None) is not True:
        raise ConfigError(
            f"{name} is not marked as a checker", where=_KEY,
            fix="put @safety_checker of spin.core.safety above it",
        )  # fmt: skip
    return function


@dataclass(frozen=True)
class Safety:
    """Pictures are looked at, and unsafe ones marked; None in the place of this looks at none."""

    checker: str  # diffusers, or package.module:function
    model: Path  # folder that holds diffusers' checker
    identity: str  # tells one checker from another
    drop: bool  # whether marked pictures are left out as well


def safety_of(mode: str, *, checker: str, model: Path) -> Safety | None:
    """What a room is told for a config's off, flag or drop.

    Args:
        model: folder with diffusers' checker; refused where it has none and that one is asked for.
    """
    if mode == "off":
        return None
    if checker != DIFFUSERS:
        marked_function(checker)
        return Safety(checker, model, checker, mode == "drop")
    missing = [part for part in PARTS if not (model / part).is_dir()]
    if missing:
        raise ConfigError(
            f"lacks {', '.join(missing)}", where=str(model),
            fix="set safety.model to a folder or hub id that has them, or safety.checker to your own",
        )  # fmt: skip
    return Safety(checker, model, _digest(model), mode == "drop")


@cache
def _digest(model: Path) -> str:
    """Of 1.2 GB: once in a process."""
    files = sorted(path for part in PARTS for path in (model / part).rglob("*") if path.is_file())
    return identity_hash(*(f"{path.relative_to(model)} {hash_file(path)}" for path in files))[:16]
