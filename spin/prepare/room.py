"""The prepare room: a data set becomes prompts, and real pictures encoded once.

    runs/<run>/data/prompts.parquet, quarantine.parquet      of this run
    cache/real/<data>-<model>/real, text, held-out.parquet   shared by all runs with this data and this model
                              losers.parquet                 where a run trains on labelled losers

What stands is kept: on a whole cache no model is loaded, not even torch; and of files that are as they were when the
same was asked before no picture is read.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pyarrow as pa

from spin.core.buckets import Buckets
from spin.core.errors import ArtifactError, DataError
from spin.core.layout import RunFolder, RunsRoot
from spin.core.memory import explaining_shortage
from spin.core.progress import Progress, silent
from spin.core.schema import PROMPTS, SIZES, UNSAFE, content_digest, write_rows
from spin.core.store import read_manifest
from spin.diffusion.families.facts import picture_size
from spin.miniature.dataset import SPLITS
from spin.prepare.fingerprint import fingerprint
from spin.prepare.keeping import keep
from spin.prepare.looking import UNSAFE_PICTURE, look_of
from spin.prepare.miniature_data import read_miniature_data
from spin.prepare.own_data import read_own_data, require_enough
from spin.prepare.prepared import answered_before
from spin.prepare.quarantine import count_reasons, refuse_bad_data, write_quarantine
from spin.prepare.real_cache import fill
from spin.prepare.request import PrepareRequest, PrepareResult
from spin.prepare.rows import TargetData
from spin.prepare.url_copy import copy_from_url


def run(request: PrepareRequest, *, progress: Progress = silent) -> PrepareResult:
    """Write the run's prompts and whatever the shared cache lacks; `progress(done, total)` counts encoded pictures."""
    with explaining_shortage(request.memory_knobs, device=request.device):
        return _run(request, progress)


def _run(request: PrepareRequest, progress: Progress) -> PrepareResult:
    started = time.perf_counter()
    folder = RunsRoot(request.runs_root).run(request.run)
    asked, request = request, _copied(request, folder, progress)
    files = fingerprint(request.path, source=request.source)
    if (kept := answered_before(folder, asked, fingerprint=files)) is not None:
        return replace(kept, seconds=time.perf_counter() - started)
    size = picture_size(request.base, resolution=request.resolution)
    data = _read(request, side=size)
    digest, buckets = data.digest(size), _bucket_counts(data)
    _refuse_other_data(folder, digest)
    write_quarantine(folder.quarantine, data)
    if request.source != "miniature":
        refuse_bad_data(data, max_bad_share=request.max_bad_share, where=request.path, quarantine=folder.quarantine)
        require_enough(data, where=request.path)
    keep(
        folder.prompts,
        lambda path: write_rows(path, _schema(request), (row.as_prompt(size) for row in data.rows)),
        kind="prompts",
        digest=content_digest,
        identity={"data": digest, **({} if request.safety is None else {"checker": request.safety.identity})},
        environment=lambda: {"counts": {**_counts(data), **({"buckets": buckets} if buckets else {})}},
    )
    cache = folder.root.real_cache(digest, request.base_digest)
    encoded = fill(cache, data, request=request, size=size, digest=digest, progress=progress)
    rows = Counter(row.split for row in data.rows)
    return PrepareResult(
        prompts=folder.prompts,
        real=cache.path,
        data_digest=digest,
        rows={split: rows[split] for split in SPLITS},
        quarantined=count_reasons(data),
        encoded=encoded,
        seconds=time.perf_counter() - started,
        dropped=dict(data.dropped),
        unsafe={} if request.safety is None else _looked_at(data),
        buckets=buckets,
        fingerprint=files,
    )


def _schema(request: PrepareRequest) -> pa.Schema:
    sizes = SIZES if request.aspect_ratio == "buckets" else ()
    marks = [pa.field(UNSAFE, pa.bool_())] if request.safety is not None else []
    return pa.schema([*PROMPTS, *sizes, *marks])


def _buckets(request: PrepareRequest, side: int) -> Buckets | None:
    return Buckets(side, request.bucket_step, request.bucket_ratio) if request.aspect_ratio == "buckets" else None


def _looked_at(data: TargetData) -> dict[str, int]:
    """Pictures that the safety checker saw, and those that it marked, left out ones too."""
    dropped = data.dropped.get(UNSAFE_PICTURE, 0)
    return {"pictures": len(data.rows) + dropped, "flagged": sum(bool(row.unsafe) for row in data.rows) + dropped}


def _counts(data: TargetData) -> dict[str, int | dict[str, int]]:
    """What became of the rows that the source holds: `met` is the sum of the others."""
    good = {"kept": len(data.rows), "not asked for": data.left_out}
    met = sum(good.values()) + sum(data.dropped.values()) + len(data.rejections)
    return {"met": met, **good, "dropped": dict(data.dropped), "quarantined": count_reasons(data)}


def _bucket_counts(data: TargetData) -> dict[str, int]:
    """Train rows of each bucket, the most frequent first; none where all are squares."""
    if data.buckets is None:
        return {}
    found = Counter(row.size(data.buckets.side).words for row in data.rows if row.split == "train")
    return dict(found.most_common())


def _copied(request: PrepareRequest, folder: RunFolder, progress: Progress) -> PrepareRequest:
    """The request for data that lies on this machine."""
    if request.hub is not None:
        from spin.prepare.hub_copy import copy_from_hub  # `datasets` takes 1 s to import

        path = copy_from_hub(request.hub, root=folder.root, pairs=request.pairs, progress=progress)
        return replace(request, path=path)
    if request.url is not None and request.source != "miniature":
        path = copy_from_url(request.url, source=request.source, root=folder.root, progress=progress)
        return replace(request, path=path)
    return request


def _read(request: PrepareRequest, *, side: int) -> TargetData:
    look = look_of(request.safety, device=request.device)
    if request.source == "miniature":
        return read_miniature_data(request.target, train_rows=request.rows, losers=request.losers, look=look)
    return read_own_data(
        request.path,
        source=request.source,
        image_column=request.image_column,
        caption_column=request.caption_column,
        loser_column=request.loser_column,
        pairs=request.pairs,
        captions=request.captions,
        crop=request.crop,
        buckets=_buckets(request, side),
        train_rows=request.rows,
        held_out_share=request.held_out_share,
        max_image_pixels=request.max_image_pixels,
        look=look,
    )


def _refuse_other_data(folder: RunFolder, digest: str) -> None:
    """A run that was prepared keeps its data: its samples and weights came from them."""
    try:
        manifest = read_manifest(folder.prompts)
    except ArtifactError:  # damaged: made anew
        return
    before = manifest.identity.get("data") if manifest is not None else digest
    if before != digest:
        problem = f"run {folder.path.name} was prepared from other data ({str(before)[:16]}, now {digest[:16]})"
        raise DataError(problem, where=str(folder.prompts), fix="choose another run.name, or put the data back")
