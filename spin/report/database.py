"""The files of a runs root as tables of DuckDB, for questions that the report does not answer.

What stands here is only read. DuckDB opens no file: it is handed Arrow tables of whole artifacts, so no query can
name a path, a URL or an extension. A file without its manifest does not exist here either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import RunsRoot, manifest_path
from spin.core.nights import NIGHTS
from spin.core.record import read_record, run_names
from spin.core.schema import DENOISING, IMAGE_TYPE, QUARANTINE, SCORES, SET_METRICS, read_table
from spin.core.store import is_whole, read_manifest

# Names as in paths: 16 digits of the model's digest, benchmark.protocol.hash.
_PLACE: Final = pa.schema(
    [*((name, pa.string()) for name in ("checkpoint", "benchmark", "protocol", "evaluation")), ("shard", pa.int32())]
)
_IMAGES: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt_id", "prompt", "category", "challenge")),
        ("seed", pa.uint64()),
        ("draw", pa.int32()),
    ]
)
_EVALUATIONS: Final = pa.schema(
    [
        *_PLACE,
        ("part", pa.string()),
        ("images", pa.int64()),
        ("seconds", pa.float64()),
        *((name, pa.string()) for name in ("device", "dtype", "host")),
        ("made", pa.timestamp("us")),
        ("size_bytes", pa.int64()),
        ("content_digest", pa.string()),
    ]
)
_RUNS: Final = pa.schema(
    [
        ("run", pa.string()),
        ("position", pa.int32()),
        *((name, pa.string()) for name in ("stage", "label", "checkpoint", "digest", "opponent")),
        *((name, pa.string()) for name in ("benchmark", "protocol", "evaluation", "config")),
        ("seed", pa.int64()),
    ]
)
_PARTS: Final = ("scores", "images", "quarantine", "denoising", "set-metrics")
_DIGITS: Final = 16  # of a model's digest in a path
_SETTINGS: Final = {
    "autoinstall_known_extensions": False, "autoload_known_extensions": False, "allow_community_extensions": False,
    "allow_persistent_secrets": False, "temp_directory": "",
}  # fmt: skip


@dataclass(frozen=True)
class Database:
    """An open connection, and a line for each thing that was left out."""

    connection: Any  # duckdb.DuckDBPyConnection
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Artifact:
    path: Path
    part: str
    place: Mapping[str, Any]  # values of _PLACE


def open_database(root: RunsRoot, *, with_bytes: bool = False) -> Database:
    """The tables that docs/scores.md describes."""
    duckdb = _duckdb()
    if not root.path.is_dir():
        raise ConfigError("no such folder", where=str(root.path), fix="name the runs root with --root")
    notices: list[str] = []
    found = list(_whole_artifacts(root, notices))
    tables = {
        "scores": (_files(found, "scores", SCORES), "digest"),
        "images": (_files(found, "images", _image_columns(with_bytes)), None),
        "quarantine": (_files(found, "quarantine", QUARANTINE), None),
        "denoising": (_files(found, "denoising", DENOISING), None),
        "set_metrics": (_files(found, "set-metrics", SET_METRICS), None),
        "evaluations": (pa.Table.from_pylist([_manifest_row(one) for one in found], schema=_EVALUATIONS), None),
        "nights": (_nights(root, notices), "digest"),
        "runs": (pa.Table.from_pylist(list(_run_rows(root, notices)), schema=_RUNS), None),
    }
    connection = duckdb.connect(":memory:", config=_SETTINGS)
    for name, (data, digest) in tables.items():
        _add_table(connection, name, data, digest=digest, with_bytes=with_bytes)
    connection.execute("SET enable_external_access = false")  # nor may a query name this program's variables
    connection.execute("SET lock_configuration = true")
    return Database(connection, tuple(notices))


def _duckdb() -> Any:
    try:
        import duckdb
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise ConfigError(
            "DuckDB is not installed", where="query", fix='pip install "spin-diffusion[query]"'
        ) from error
    return duckdb


def _add_table(connection: Any, name: str, data: Any, *, digest: str | None, with_bytes: bool) -> None:
    """A view; a column `checkpoint` with whole digests becomes `digest`, and `checkpoint` the digits of the paths."""
    columns = "*"
    if name == "scores":
        columns = f"place_checkpoint AS checkpoint, * EXCLUDE (place_checkpoint, checkpoint), checkpoint AS {digest}"
    elif digest is not None:
        columns = f"* REPLACE (left(checkpoint, {_DIGITS}) AS checkpoint), checkpoint AS {digest}"
    elif "place_checkpoint" in data.schema.names:
        columns = "place_checkpoint AS checkpoint, * EXCLUDE (place_checkpoint)"
    if name == "images" and with_bytes:
        columns = columns.replace("(place_checkpoint)", "(place_checkpoint, image)") + ", image.bytes AS bytes"
    connection.from_arrow(data).project(columns).create_view(name)


def _whole_artifacts(root: RunsRoot, notices: list[str]) -> Iterator[_Artifact]:
    """Every file of every evaluation that stands; shallow: manifest, size and footer."""
    torn = 0
    for folder in sorted((root.path / "evaluations").glob("*/*.*.*/")):
        benchmark, protocol, evaluation = folder.name.rsplit(".", 2)
        for path in sorted([*folder.glob("*/shard-*.parquet"), *folder.glob("set-metrics.parquet")]):
            part = path.stem if path.parent == folder else path.parent.name
            shard = re.fullmatch(r"shard-(\d+)", path.stem)
            if part not in _PARTS:
                continue
            if not is_whole(path):
                torn += 1
                continue
            place = (folder.parent.name, benchmark, protocol, evaluation, int(shard[1]) if shard else None)
            yield _Artifact(path, part, dict(zip(_PLACE.names, place, strict=True)))
    if torn:
        notices.append(f"{torn} damaged or unfinished files of evaluations are left out")


def _files(found: Sequence[_Artifact], part: str, schema: pa.Schema) -> ds.Dataset:
    """All files of one part as one data set that is read when it is asked; columns that a file lacks are null."""
    files = [one for one in found if one.part == part]
    place = [("place_checkpoint" if field.name == "checkpoint" else field.name, field.type) for field in _PLACE]
    if part == "set-metrics":
        place = place[:-1]
    return ds.FileSystemDataset.from_paths(
        [str(one.path) for one in files],
        schema=pa.schema([*place, *schema]),
        format=ds.ParquetFileFormat(),
        filesystem=LocalFileSystem(),
        partitions=[_values(one.place) for one in files],
    )


def _values(place: Mapping[str, Any]) -> ds.Expression:
    """What holds for all rows of a file, so that other files are not opened."""
    holds = ds.field("place_checkpoint") == place["checkpoint"]
    for name in ("benchmark", "protocol", "evaluation", "shard"):
        if place[name] is not None:
            holds &= ds.field(name) == place[name]
    return holds


def _image_columns(with_bytes: bool) -> pa.Schema:
    return _IMAGES.append(pa.field("image", IMAGE_TYPE)) if with_bytes else _IMAGES


def _manifest_row(artifact: _Artifact) -> dict[str, Any]:
    manifest = read_manifest(artifact.path)
    assert manifest is not None
    about = manifest.environment
    made = datetime.fromtimestamp(manifest_path(artifact.path).stat().st_mtime, UTC).replace(tzinfo=None)
    return {
        **artifact.place,
        "part": artifact.part,
        **{name: about.get(name) for name in ("images", "seconds", "device", "dtype", "host")},
        "made": made,
        "size_bytes": sum(file.size_bytes for file in manifest.files),
        "content_digest": manifest.content_digest,
    }


def _nights(root: RunsRoot, notices: list[str]) -> pa.Table:
    """The history as it stands; `read_nights` would set a damaged one aside, and here nothing is written."""
    empty = pa.Table.from_pylist([], schema=NIGHTS)
    if not root.nights.exists():
        return empty
    try:
        return read_table(root.nights).select(NIGHTS.names).cast(NIGHTS)
    except (ArtifactError, pa.ArrowException, KeyError) as error:
        notices.append(f"the history of nights is left out: {str(error).splitlines()[0]}")
        return empty


def _run_rows(root: RunsRoot, notices: list[str]) -> Iterator[dict[str, Any]]:
    for name in run_names(root):
        try:
            record = read_record(root.run(name))
        except (ArtifactError, ConfigError) as error:
            notices.append(f"run {name} is left out: {str(error).splitlines()[0]}")
            continue
        data = record.get("data")
        stages = [*([{"name": "data", **data}] if data else []), *record["stages"]]
        for (position, stage), evaluated in ((one, e) for one in enumerate(stages) for e in _evaluated(one[1])):
            yield {
                "run": name, "position": position, "stage": stage["name"], "label": stage.get("label"),
                "digest": stage.get("digest"), "opponent": (stage.get("opponent_digest") or "")[:_DIGITS] or None,
                "config": record["config_hash"], "seed": record["seed"], **evaluated,
            }  # fmt: skip


def _evaluated(stage: Mapping[str, Any]) -> Iterator[dict[str, str | None]]:
    """Where each of a stage's evaluations stands, in the words of its path."""
    digits = (stage.get("digest") or "")[:_DIGITS] or None
    paths = [Path(path) for path in dict.fromkeys([stage.get("evaluation"), *(stage.get("evaluations") or {}).values()])
             if path and Path(path).name.count(".") >= 2]  # fmt: skip
    if not paths:
        yield {"checkpoint": digits}
    for path in paths:
        benchmark, protocol, evaluation = path.name.rsplit(".", 2)
        place = {"benchmark": benchmark, "protocol": protocol, "evaluation": evaluation}
        yield {"checkpoint": digits or path.parent.name, **place}
