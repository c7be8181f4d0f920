"""The copy of data from elsewhere, which stands in the runs root before anything of it is encoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.forecast_rows import STATED
from flows.forecast_space import size_text
from spin.core.config import Config
from spin.core.layout import RunsRoot
from spin.core.places import place_of, shown
from spin.prepare.copied import Copied
from spin.prepare.hub_copy import copied_from_hub
from spin.prepare.url_copy import copied_from_url

# The train split by its data set card: bytes, and rows of two pictures each.
_CARDS: Final = {"yuvalkirstain/pickapic_v2": (322_022_952_127, 959_040)}


@dataclass(frozen=True)
class Copy:
    """What is still to be copied, and how that is known."""

    missing_bytes: int | None  # None where nobody on this machine can say
    told: str


def copy_of(config: Config) -> Copy | None:
    """None where the data lies on this machine."""
    data, root = config.data, RunsRoot(Path(config.run.root).absolute())
    place = place_of(data.path, on_hub=data.source == "pickapic")
    if place.hub is not None:
        copied = copied_from_hub(place.hub, root=root, pairs=data.pairs)
        return _stated(place.hub, pairs=data.pairs) if copied is None else _begun(copied)
    if place.url is None or data.source == "miniature":
        return None
    copied = copied_from_url(place.url, source=data.source, root=root)
    return _unknown(shown(place.url)) if copied is None or copied.whole_bytes is None else _begun(copied)


def _begun(copied: Copied) -> Copy:
    if not copied.missing_bytes:
        return Copy(0, f"the copy of the data stands already, {size_text(copied.standing_bytes)}")
    return Copy(copied.missing_bytes, f"{size_text(copied.standing_bytes)} of the copy of the data stand already")


def _stated(dataset: str, *, pairs: bool) -> Copy:
    """By the data set's card; rows without a winner keep no picture."""
    card = _CARDS.get(dataset.partition("@")[0])
    if card is None:
        return _unknown(dataset)
    size, rows = card
    pictures = STATED["pickapic"].rows * (2 if pairs else 1)
    told = f"the copy of the data by its card, {size / 1e9:,.0f} GB of {rows:,} pairs"
    return Copy(round(size / (2 * rows) * pictures), told)


def _unknown(place: str) -> Copy:
    return Copy(None, f"the copy of {place} comes on top, of a size that only the network tells")
