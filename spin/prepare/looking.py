"""Real pictures under the eyes of a safety checker, each as it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from spin.core.safety import Safety

if TYPE_CHECKING:
    from spin.diffusion.safety import Checker

UNSAFE_PICTURE: Final = "unsafe picture"


@dataclass(frozen=True)
class Look:
    """A checker at the door of the data, and whether what it marks is left out."""

    checker: Checker
    drop: bool

    def marks(self, *pictures: Image.Image) -> bool:
        """Whether one of a row's pictures is unsafe: the winner, or its loser."""
        return any(self.checker.unsafe(np.asarray(picture)[None])[0] for picture in pictures)


def look_of(safety: Safety | None, *, device: str) -> Look | None:
    """None where nobody looks: torch is not imported then."""
    if safety is None:
        return None
    from spin.diffusion.safety import resident_checker

    return Look(resident_checker(safety, device), safety.drop)
