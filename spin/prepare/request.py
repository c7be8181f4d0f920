"""What the prepare room is asked and what it answers; paths and exact values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spin.core.memory import Knob, switched
from spin.core.safety import Safety


@dataclass(frozen=True)
class PrepareRequest:
    runs_root: Path
    run: str
    source: Literal["miniature", "imagefolder", "parquet", "webdataset", "pickapic"]
    path: Path | None
    image_column: str
    caption_column: str
    target: Literal["winners", "clean"]
    rows: int | None
    held_out_share: float
    max_bad_share: float
    max_image_pixels: int
    resolution: int | None  # None: the model's own
    base: Path  # diffusers folder
    base_digest: str
    seed: int
    device: str
    threads: int
    loser_column: str | None = None  # of own data; rows without a loser are left out where it is named
    losers: bool = False  # whether the losers of the train rows are encoded too
    flips: bool = False  # whether the mirrored train pictures, and losers, are encoded too
    pairs: bool = False  # of Pick-a-Pic; whether its losers are read and judged, and rows without a whole one left out
    captions: Literal["one", "first", "all", "drawn"] = "one"  # what becomes of a row with several
    crop: Literal["center", "random"] = "center"
    aspect_ratio: Literal["square", "buckets"] = "square"  # of train pictures
    bucket_step: int = 64  # pixels
    bucket_ratio: float = 2.0
    url: str | None = None  # of files, in place of a path
    safety: Safety | None = None  # of real pictures
    hub: str | None = None  # a data set of the hub in place of a path: OWNER/NAME or OWNER/NAME@REVISION

    @property
    def memory_knobs(self) -> tuple[Knob, ...]:
        """What takes less memory: pictures go through the VAE by about a million pixels, whatever is set."""
        return (switched("execution.device", self.device, "cpu"),)


@dataclass(frozen=True)
class PrepareResult:
    prompts: Path  # runs/<run>/data/prompts.parquet
    real: Path  # folder of the shared cache: real.parquet, text.parquet, held-out.parquet, perhaps losers.parquet
    data_digest: str
    rows: dict[str, int]  # per split: train, validation, test
    quarantined: dict[str, int]  # per reason
    encoded: int  # images encoded by this call; 0 where the cache stood
    seconds: float
    dropped: dict[str, int] = field(default_factory=dict)  # rows that are not bad, by the rule that leaves them out
    unsafe: dict[str, int] = field(default_factory=dict)  # pictures looked at, and of these flagged ones; empty: none
    buckets: dict[str, int] = field(default_factory=dict)  # train rows by the size of their picture; empty: squares
    fingerprint: str = ""  # of the source's files before they were read; empty: cannot be told
