"""A run as a folder that `datasets` loads: hard links to its Parquet files, and a card that names them.

    load_dataset(DIR, "scores")["iteration_02"]

A config for each kind of table, a split for each model. The real pictures are left out: they are not the run's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from spin.core.errors import ConfigError
from spin.core.layout import EvaluationFolder, StageFolder, manifest_path
from spin.core.schema import LATENT_SIZES, UNSAFE, is_tensor, tensor_layout
from spin.core.store import verify
from spin.report.markdown import bullets, code, escape, section
from spin.report.publishing.card import data_section, licence_section
from spin.report.publishing.folder import Piece, refuse_place, write_folder
from spin.report.publishing.model import Subject
from spin.report.reading import Run, shards
from spin.report.subjects import DATA

_MEANINGS: Final[Mapping[str, str]] = {
    "prompts": "every row of the data: its caption, its split, where it came from",
    "quarantine": "rows that were set aside, with reasons",
    "samples": "what the opponent drew for training: latents, and pictures where the run stored them",
    "scores": "one score of one picture by one judge",
    "images": "the pictures that were scored; those of the data are not part of this",
    "safety": "what a safety checker said of each picture",
    "denoising": "held-out denoising errors",
    "set_metrics": "numbers of the whole set of pictures",
    "training_log": "one row an optimizer step",
    "held_out_log": "held-out error by noise level while training",
}
_PLAIN: Final = "rows"  # the split of a table that belongs to no model


@dataclass(frozen=True)
class PublishedDataset:
    folder: Path
    configs: tuple[str, ...]
    files: int
    size_bytes: int
    written: tuple[str, ...]  # names relative to the folder: those files, and the card

    @property
    def summary(self) -> str:
        return f"{', '.join(self.configs)}; {self.files} files, {self.size_bytes / 2**20:.1f} MiB, hard-linked"


@dataclass(frozen=True)
class _Table:
    """Files of one config and split; none of them where pictures among them are marked as unsafe."""

    config: str
    split: str
    files: tuple[Path, ...]
    marked: int = 0  # for whose sake the files are left out

    @classmethod
    def of_pictures(cls, config: str, split: str, files: tuple[Path, ...], *, looked_at: Sequence[Path]) -> _Table:
        """Left out whole where a checker's tables mark a picture: the files are the run's own, and not cut."""
        count = _marked(looked_at)
        return cls(config, split, () if count else files, count)

    def pieces(self) -> Iterator[Piece]:
        for path in self.files:
            verify(path)
            yield Piece(f"{self.folder}/{path.name}", path)

    @property
    def folder(self) -> str:
        return f"{self.config}/{self.split}"


def publish_dataset(subject: Subject, into: Path) -> PublishedDataset:
    """Write the folder; every file's bytes are verified first."""
    refuse_place(into)
    every = list(_tables(subject.run))
    tables = [each for each in every if each.files]
    if not tables:
        raise ConfigError("holds nothing to publish yet", where=subject.run.name, fix="finish the run first")
    pieces = [piece for each in tables for piece in each.pieces()]
    written = write_folder(into, pieces, {}, card=_card(subject, tables, left_out=every))
    configs = tuple(dict.fromkeys(each.config for each in tables))
    size = sum(piece.source.stat().st_size for piece in pieces)
    return PublishedDataset(into, configs, len(pieces), size, written)


def _tables(run: Run) -> Iterator[_Table]:
    yield _Table("prompts", _PLAIN, _standing(run.folder.prompts))
    yield _Table("quarantine", _PLAIN, _filled(run.folder.quarantine))
    for stage in run.stages:
        place = StageFolder(run.folder.path / stage.name)
        samples = _standing(*shards(place.samples(0).parent))
        drawn = samples if samples and "image" in pq.read_schema(samples[0]).names else ()
        yield _Table.of_pictures("samples", _split(stage.name), samples, looked_at=drawn)
        yield _Table("training_log", _split(stage.name), _standing(place.training_log))
        yield _Table("held_out_log", _split(stage.name), _filled(place.held_out_log))
    for name, folder in _evaluations(run):
        key, split = f"{folder.benchmark}.{folder.protocol}", _split(name)
        suffix = "" if key == run.key else f".{key}"
        yield _Table(f"scores{suffix}", split, _standing(*shards(folder.scores(0).parent)))
        if name != DATA:
            looked = _standing(*shards(folder.safety(0).parent))
            yield _Table(f"safety{suffix}", split, looked)
            images = _standing(*shards(folder.images(0).parent))
            yield _Table.of_pictures(f"images{suffix}", split, images, looked_at=looked)
            yield _Table(f"denoising{suffix}", split, _standing(*shards(folder.denoising(0).parent)))
        yield _Table(f"set_metrics{suffix}", split, _filled(folder.set_metrics))


def _marked(files: Sequence[Path]) -> int:
    """Pictures of some tables that a safety checker marked as unsafe."""
    held = (file for file in files if UNSAFE in pq.read_schema(file).names)
    return sum(int(pc.sum(pq.read_table(file, columns=[UNSAFE])[UNSAFE]).as_py() or 0) for file in held)


def _left_out(tables: Sequence[_Table]) -> str:
    """Which pictures are not published, and why."""
    lines = [
        f"{code(each.config)} of {code(each.split)}: {each.marked} marked as unsafe" for each in tables if each.marked
    ]
    return section("Left out", bullets(lines)) if lines else ""


def _evaluations(run: Run) -> Iterator[tuple[str, EvaluationFolder]]:
    """Every evaluation of the data and of each model, as the record has them."""
    entries: list[dict[str, Any]] = [{"name": DATA, **(run.record.get(DATA) or {})}, *run.record["stages"]]
    for entry in entries:
        for path in (entry.get("evaluations") or {}).values() or filter(None, [entry.get("evaluation")]):
            yield str(entry["name"]), EvaluationFolder(run.folder.root.path / path)


def _split(stage: str) -> str:
    """`datasets` takes words only: iteration_01."""
    return stage.replace("-", "_")


def _standing(*paths: Path) -> tuple[Path, ...]:
    return tuple(path for path in paths if path.exists() and manifest_path(path).exists())


def _filled(path: Path) -> tuple[Path, ...]:
    """A table that has rows: `datasets` makes no split of none."""
    return tuple(each for each in _standing(path) if pq.read_metadata(each).num_rows)


def _card(subject: Subject, tables: Sequence[_Table], *, left_out: Sequence[_Table]) -> str:
    from huggingface_hub import DatasetCardData

    run, licences = subject.run, subject.licences
    front = DatasetCardData(
        license=licences.data.id, pretty_name=f"{run.name}, a run of spin-diffusion", task_categories=["text-to-image"],
        tags=["spin-diffusion"], configs=_configs(tables),
    )  # fmt: skip
    parts = [
        f"# {escape(run.name)}, a run of spin-diffusion",
        "Prompts, generated samples, pictures, scores and logs of one run, as it left them.",
        _usage(tables),
        _contents(tables),
        _left_out(left_out),
        data_section(run, subject.config),
        licence_section([licences.data, licences.base, *licences.scorers]),
    ]
    return f"---\n{front.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _configs(tables: Sequence[_Table]) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, str]]] = {}
    for each in tables:
        found.setdefault(each.config, []).append({"split": each.split, "path": f"{each.folder}/*.parquet"})
    return [{"config_name": name, "data_files": files} for name, files in found.items()]


def _usage(tables: Sequence[_Table]) -> str:
    scored = next((each for each in reversed(tables) if each.config == "scores"), tables[0])
    lines = ["from datasets import load_dataset", "", f'rows = load_dataset(DIR, "{scored.config}", '
             f'split="{scored.split}")']  # fmt: skip
    return section("How to read it", "```python\n" + "\n".join(lines) + "\n```", bullets(list(_latents(tables))))


def _latents(tables: Sequence[_Table]) -> Iterator[str]:
    """How to read columns of tensors, which are bytes here."""
    samples = next((each.files[0] for each in tables if each.config == "samples"), None)
    if samples is None:
        return
    schema = pq.read_schema(samples)
    for field in filter(is_tensor, schema):
        shape, dtype = tensor_layout(field)
        read = f'np.frombuffer(row["{field.name}"], "{dtype}").reshape({list(shape)})'
        yield f"column {code(field.name)} of `samples`: {code(read)}"
    if LATENT_SIZES[0] in schema.names:
        yield (
            "latents are of several sizes: the first `latent_height * latent_width` numbers of each channel are the "
            "image's, those behind them are 0"
        )


def _contents(tables: Sequence[_Table]) -> str:
    lines = []
    for name in dict.fromkeys(each.config for each in tables):
        splits = [each for each in tables if each.config == name]
        count = sum(pq.read_metadata(path).num_rows for each in splits for path in each.files)
        named = ", ".join(code(each.split) for each in splits)
        lines.append(f"{code(name)}: {_MEANINGS[name.partition('.')[0]]}; {count:,} rows in {named}")
    return section("Tables", "A split for each model.", bullets(lines))
