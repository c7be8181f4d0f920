"""What the prepare room is asked: the data as the config names it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flows.safety import real_safety
from spin.core.config import Config
from spin.core.layout import RunsRoot
from spin.core.places import place_of
from spin.prepare.request import PrepareRequest

_OF_DATA: Final = (  # settings that the room knows by the same name
    "source", "image_column", "caption_column", "captions", "loser_column", "pairs", "target", "rows", "held_out_share",
    "max_bad_share", "max_image_pixels", "resolution", "crop", "aspect_ratio", "bucket_step", "bucket_ratio",
)  # fmt: skip


def prepare_request(config: Config, *, root: RunsRoot, base: Path, base_digest: str, device: str) -> PrepareRequest:
    """The request of a run for its data, encoded by `base`."""
    place = place_of(config.data.path, on_hub=config.data.source == "pickapic")
    return PrepareRequest(
        runs_root=root.path,
        run=config.run.name,
        path=place.path,
        url=place.url,
        hub=place.hub,
        losers=config.train.losers == "labelled" and config.iterations > 0,
        flips=config.train.flip,
        base=base,
        base_digest=base_digest,
        seed=config.run.seed,
        device=device,
        threads=config.execution.threads,
        safety=real_safety(config),
        **{name: getattr(config.data, name) for name in _OF_DATA},
    )
