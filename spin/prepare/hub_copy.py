"""Pick-a-Pic from the hub: streamed once by `datasets`, and kept as Parquet files of the same columns.

Rows are read several times, to be judged and to be encoded, and again for each base model: over the network each of
them would cost the whole traffic. The copy holds of each row what the rules and the run need: labels, caption, and the
winner's bytes, or both pictures where losers are wanted. It is made in parts, one for each file of the data set: a lost
connection is taken up again by `datasets` itself, a killed run costs one part, and in memory is a row group.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from spin.core.errors import DataError
from spin.core.layout import RunsRoot, SourceFolder
from spin.core.plan import identity_hash
from spin.core.progress import Progress
from spin.core.rejecting import Rejected
from spin.core.store import commit, is_whole, read_manifest
from spin.prepare.copied import Copied
from spin.prepare.foreign import told
from spin.prepare.pickapic import HAS_LABEL, PICTURES, TRAIN, require_pickapic, winner_of

NAME: Final = "pickapic"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_ROWS_AT_ONCE: Final = 64  # a row is up to a megabyte
_SCHEMA: Final = pa.schema(
    [
        ("caption", pa.string()),
        *((name, pa.binary()) for name in PICTURES),  # null where nobody needs it
        *((name, pa.float64()) for name in ("label_0", "label_1")),
        (HAS_LABEL, pa.bool_()),
    ]
)


def copy_from_hub(dataset: str, *, root: RunsRoot, pairs: bool, progress: Progress) -> Path:
    """The folder of a copy of the train split; what of it stands is kept.

    Where the hub cannot be asked, the one copy that is whole is taken as it is.

    Args:
        dataset: OWNER/NAME on the hub, or OWNER/NAME@REVISION; a whole commit id is not asked for.
        pairs: both pictures of each row, not the winner alone.
    """
    repository, _, revision = dataset.partition("@")
    wanted = _wanted(repository, pairs=pairs)
    try:
        identity = {**wanted, "revision": _commit_of(repository, revision or None)}
    except DataError as error:
        if (copy := _only_copy(root, wanted)) is None:
            raise
        logging.getLogger(__name__).warning("%s; the copy in %s is taken as it is", error, copy.path)
        return copy.path
    folder = root.source(NAME, identity_hash(*sorted(identity.items())))
    if not _is_whole(folder, identity):
        with _telling(repository):
            rows = open_rows(repository, revision=identity["revision"])
        copy_parts(rows, folder, identity=identity, progress=progress)
    return folder.path


def copied_from_hub(dataset: str, *, root: RunsRoot, pairs: bool) -> Copied | None:
    """What stands of a copy, without the network: of several commits' the largest; None where there is none.

    The files that are missing are taken to be as large as those that stand.
    """
    repository, _, revision = dataset.partition("@")
    wanted = _wanted(repository, pairs=pairs) | ({"revision": revision} if _COMMIT.fullmatch(revision) else {})
    found = []
    for folder, identity in _begun(root, wanted):
        count = int(identity["parts"])
        parts = [part for part in map(read_manifest, map(folder.part, range(count))) if part is not None]
        standing = sum(file.size_bytes for part in parts for file in part.files)
        found.append(Copied(standing, round(standing * count / len(parts))))
    return max(found, key=lambda copied: copied.standing_bytes, default=None)


def open_rows(repository: str, *, revision: str | None = None) -> Any:
    """The train split as a stream of `datasets` with the columns of Pick-a-Pic that are read, and no others."""
    from datasets import load_dataset

    options = {"split": TRAIN, "revision": revision, "streaming": True}
    names = load_dataset(repository, **options).column_names or []
    require_pickapic(names, where=f"data.path: {repository}", fix="name yuvalkirstain/pickapic_v2")
    return load_dataset(repository, columns=[name for name in _SCHEMA.names if name in names], **options)


def copy_parts(rows: Any, folder: SourceFolder, *, identity: Mapping[str, Any], progress: Progress) -> None:
    """Write every part that does not stand; the parts of the stream are the files of the data set."""
    count = rows.num_shards
    for number in range(count):
        part, made_from = folder.part(number), {**identity, "part": number, "parts": count}
        if not is_whole(part, identity=made_from):
            commit(part, partial(_write_part, rows.shard(count, number), made_from), kind="source", identity=made_from)
        progress(number + 1, count, "files copied")


def _commit_of(repository: str, revision: str | None) -> str:
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    with _telling(repository):
        return str(HfApi().dataset_info(repository, revision=revision).sha)


def _telling(repository: str) -> AbstractContextManager[None]:
    fix = "see that the hub can be reached and has it, or name another copy, there or a folder of its files"
    return told("cannot be opened on the hub", where=f"data.path: {repository}", fix=fix)


def _wanted(repository: str, *, pairs: bool) -> dict[str, Any]:
    """What a copy is made from, whatever the commit."""
    return {"dataset": repository, "split": TRAIN, "pairs": pairs}


def _only_copy(root: RunsRoot, wanted: Mapping[str, Any]) -> SourceFolder | None:
    """The whole copy of any commit; None where there is none, or several."""
    made = _begun(root, wanted)
    whole = [folder for folder, identity in made if _is_whole(folder, {**wanted, "revision": identity["revision"]})]
    return whole[0] if len(whole) == 1 else None


def _begun(root: RunsRoot, wanted: Mapping[str, Any]) -> list[tuple[SourceFolder, Mapping[str, Any]]]:
    """Copies whose first part stands, with what that is made from."""
    firsts = ((folder, read_manifest(folder.part(0))) for folder in root.sources(NAME))
    return [(folder, first.identity) for folder, first in firsts if first and wanted.items() <= first.identity.items()]


def _is_whole(folder: SourceFolder, identity: Mapping[str, Any]) -> bool:
    """Whether every part stands; any of them knows how many there are."""
    first = read_manifest(folder.part(0))
    count = 0 if first is None else int(first.identity["parts"])
    wanted = (({**identity, "part": number, "parts": count}, folder.part(number)) for number in range(count))
    return count > 0 and all(is_whole(part, identity=made_from) for made_from, part in wanted)


def _write_part(rows: Any, identity: Mapping[str, Any], path: Path) -> None:
    with pq.ParquetWriter(path, _SCHEMA, compression="none", use_dictionary=False, write_page_checksum=True) as writer:
        for table in _tables(rows, where=f"{identity['dataset']}, file {identity['part'] + 1} of {identity['parts']}"):
            needed = list(_needed(table, pairs=identity["pairs"]))
            writer.write_table(pa.Table.from_pylist(needed, schema=_SCHEMA))


def _tables(rows: Any, *, where: str) -> Iterator[pa.Table]:
    with told("cannot be read from the hub", where=where, fix="run again: the files before it are kept"):
        yield from rows.with_format("arrow").iter(_ROWS_AT_ONCE)


def _needed(table: pa.Table, *, pairs: bool) -> Iterator[dict[str, Any]]:
    """Rows without the pictures that nobody asks for."""
    kept: tuple[str, ...]
    for row in table.to_pylist():
        try:
            winner = winner_of(row)
            kept = PICTURES if pairs else (PICTURES[winner],)
        except Rejected:
            kept = ()
        yield row | {name: _bytes_of(row[name]) if name in kept else None for name in PICTURES}


def _bytes_of(cell: Any) -> bytes | None:
    return cell["bytes"] if isinstance(cell, dict) else cell
