"""Paths of folders beside the runs: comparisons, and prompt sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ComparisonFolder:
    """What a recipe's runs have come to; the runs themselves stand beside it."""

    path: Path

    @property
    def rates(self) -> Path:
        """Device time of the units of work, measured before the first run."""
        return self.path / "rates.json"

    @property
    def page(self) -> Path:
        return self.path / "results.md"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures.png"


@dataclass(frozen=True)
class QualityFolder:
    """What an approximation of sampling costs in quality; the pictures stand among the evaluations."""

    path: Path

    @property
    def distances(self) -> Path:
        """How far each picture's latents are from the reference's."""
        return self.path / "distances.parquet"

    @property
    def table(self) -> Path:
        """The numbers that are printed, with their intervals."""
        return self.path / "quality.json"


@dataclass(frozen=True)
class PromptSetFolder:
    """The prompts of a benchmark, named by their content and shared by evaluations."""

    path: Path

    @property
    def prompts(self) -> Path:
        return self.path / "prompts.parquet"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine.parquet"


def errors_path(folder: Path, digest: str) -> Path:
    """The errors of one opponent in the cache, by a digest of all that they are made from."""
    return folder / f"errors-{digest[:16]}.parquet"
