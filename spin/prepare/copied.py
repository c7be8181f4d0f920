"""How much of a copy stands of data that lies elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Copied:
    """A copy that was begun, or made."""

    standing_bytes: int
    whole_bytes: int | None  # when it is complete, as far as what stands of it tells

    @property
    def missing_bytes(self) -> int | None:
        return None if self.whole_bytes is None else max(self.whole_bytes - self.standing_bytes, 0)
