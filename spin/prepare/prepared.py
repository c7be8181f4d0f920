"""What the prepare room answered, kept beside the data.

A flow learns from it what a worker on another machine made, and the room itself that it need not judge again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spin.core.errors import ArtifactError
from spin.core.layout import RealCache, RunFolder
from spin.core.plan import identity_hash
from spin.core.requests import to_json
from spin.core.store import commit, is_whole, stands, verify
from spin.prepare.request import PrepareRequest, PrepareResult


def write_prepared(folder: RunFolder, request: PrepareRequest, result: PrepareResult) -> None:
    """Keep the answer to `request`; another request's answer gives way."""
    values: dict[str, Any] = json.loads(to_json(result)) | {
        "encoded": 0,
        "seconds": 0.0,
    }  # of that call, not of the data
    text = json.dumps(values, indent=1) + "\n"

    def write(path: Path) -> None:
        path.write_text(text, "utf-8")

    commit(folder.prepared, write, kind="prepared", identity=_identity(request))


def is_prepared(folder: RunFolder, request: PrepareRequest) -> bool:
    """Whether the data of `request` stands, by manifest, size and footer."""
    if not is_whole(folder.prepared, identity=_identity(request)):
        return False
    try:
        return all(is_whole(path) for path in prepared_files(folder, request))
    except ArtifactError:
        return False


def prepared_files(folder: RunFolder, request: PrepareRequest) -> tuple[Path, ...]:
    """What prepared data is made of, where the kept answer says."""
    cache = RealCache(read_prepared(folder).real)
    return folder.prompts, *cache.files(losers=request.losers, flips=request.flips)


def read_prepared(folder: RunFolder) -> PrepareResult:
    """The answer that is kept."""
    verify(folder.prepared)
    values = json.loads(folder.prepared.read_text("utf-8"))
    return PrepareResult(**values | {"prompts": folder.prompts, "real": Path(values["real"])})


def answered_before(folder: RunFolder, request: PrepareRequest, *, fingerprint: str) -> PrepareResult | None:
    """The answer to the same request of the same files, where every byte of what it made stands; else None."""
    if not fingerprint or not is_prepared(folder, request):
        return None
    kept = read_prepared(folder)
    made = (*prepared_files(folder, request), folder.quarantine)
    return kept if kept.fingerprint == fingerprint and all(map(stands, made)) else None


def _identity(request: PrepareRequest) -> dict[str, str]:
    """Of all that the data depends on; where it is encoded does not change it."""
    values = json.loads(to_json(request))
    for place in ("device", "threads"):
        values.pop(place)
    return {"request": identity_hash(json.dumps(values, sort_keys=True))}
