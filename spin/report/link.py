"""One step of a run's chain of digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spin.report.standing import Standing


@dataclass(frozen=True)
class Link:
    """One step back: what it is, its digest, what it was made from, and what is wrong with it."""

    id: str
    kind: str
    name: str
    digest: str | None = None
    made_from: tuple[str, ...] = ()  # ids of other links
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Standing, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that breaks the chain here."""
        return (*(f"{file.path} {file.broken}" for file in self.files if file.broken), *self.broken)
