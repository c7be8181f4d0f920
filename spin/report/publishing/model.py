"""A checkpoint of a run as a folder to publish: a diffusers pipeline, its card, its recipe, its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from spin.core.config import Config, load_config
from spin.core.config_identity import config_to_json
from spin.core.draft import files
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import RunsRoot
from spin.core.record import read_run_record, recorded_config
from spin.core.store import verify
from spin.report.grid import grid_png
from spin.report.pictures import Grid, picture_grid
from spin.report.publishing.card import PICTURES, labels_shown, model_card
from spin.report.publishing.findings import findings
from spin.report.publishing.folder import Piece, refuse_place, write_folder
from spin.report.publishing.licences import Licences, licences_of
from spin.report.publishing.recipe import NAME as RECIPE
from spin.report.publishing.recipe import recipe_yaml
from spin.report.reading import Run, Stage, read_run
from spin.report.standing import SHORT

NEWEST: Final = "newest"
_PROMPTS: Final = 6  # of the card's pictures
_WEIGHTS: Final = (".safetensors",)  # linked; small files are copied, as people edit those


@dataclass(frozen=True)
class Subject:
    """A run that is to be published, and what its record and the call say of it."""

    run: Run
    config: Config  # the run's, with the call's publish.* on top

    @property
    def licences(self) -> Licences:
        return licences_of(self.run, self.config)


@dataclass(frozen=True)
class PublishedModel:
    folder: Path
    label: str
    digest: str
    evaluations: int
    written: tuple[str, ...]  # files, relative to the folder

    @property
    def size_bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in self.written)

    @property
    def summary(self) -> str:
        scored = f"{self.evaluations} evaluation{'' if self.evaluations == 1 else 's'} on its card"
        return f"{self.label}, digest {self.digest[:SHORT]}, {scored}, {self.size_bytes / 2**20:.1f} MiB"


def open_subject(runs_root: Path, run: str, overrides: Sequence[str] = ()) -> Subject:
    """Read a run; only publish.* may be set on top of its record."""
    folder = RunsRoot(runs_root).run(run)
    read_run_record(folder)
    strange = [text for text in overrides if not text.startswith("publish.")]
    if strange:
        raise ConfigError("only publish.* can be set here", where=f"--set {strange[0]}", fix="leave it out")
    config = load_config(config_to_json(recorded_config(folder)), overrides=overrides)
    return Subject(read_run(runs_root=runs_root, run=run), config)


def chosen_stage(run: Run, checkpoint: str) -> Stage:
    """A trained stage by its name or label, or the newest one."""
    trained = [stage for stage in run.stages if stage.training is not None]
    known = ", ".join(stage.name for stage in trained) or "none yet"
    if checkpoint == NEWEST and trained:
        return trained[-1]
    found = next((stage for stage in trained if checkpoint in (stage.name, stage.label)), None)
    if found is None:
        problem = f"run {run.name!r} has trained no model {checkpoint[:64]!r}"
        raise ConfigError(problem, where="--checkpoint", fix=f"models: {known}")
    return found


def publish_model(subject: Subject, checkpoint: str, into: Path, *, pictures: bool = True, name: str) -> PublishedModel:
    """Write the folder.

    Args:
        checkpoint: newest, or a stage's name or label.
        pictures: a grid of prompts by models beside the card; its captions are those that were scored.
        name: what the card tells people to load.
    """
    run, config = subject.run, subject.config
    stage = chosen_stage(run, checkpoint)
    refuse_place(into)
    source = _verified(run, stage)
    found, grid = findings(run, stage), _grid(run, stage) if pictures else None
    card = model_card(
        run, config, stage, found=found, licences=subject.licences, pictures=grid is not None, name=name
    )  # fmt: skip
    texts = {RECIPE: recipe_yaml(run, config, stage).encode()}
    if grid is not None:
        texts[PICTURES] = grid_png(grid)
    pieces = [
        Piece(path.relative_to(source).as_posix(), path, link=path.suffix in _WEIGHTS) for path in files(source)
    ]  # fmt: skip
    written = write_folder(into, pieces, texts, card=card)
    return PublishedModel(into, stage.label, stage.digest, len(found), written)


def _verified(run: Run, stage: Stage) -> Path:
    """The checkpoint's folder, every byte hashed, and the very weights that were scored."""
    raw: dict[str, Any] = next(entry for entry in run.record["stages"] if entry["name"] == stage.name)
    folder = run.folder.root.path / str(raw["checkpoint"])
    manifest = verify(folder)
    if manifest.content_digest != stage.digest:
        raise ArtifactError("is not the model that the run recorded", where=str(folder), fix="run again")
    return folder


def _grid(run: Run, stage: Stage) -> Grid | None:
    """Pictures of the base, the start and this model: no real ones, which are not ours to publish."""
    whole, wanted = picture_grid(run, prompts=_PROMPTS, hide=True), labels_shown(run, stage)
    if whole is None:
        return None
    columns = [index for index, heading in enumerate(whole.headings) if heading in wanted]
    if whole.has_real:
        columns = [index for index in columns if index > 0]
    rows = tuple(replace(row, pictures=tuple(row.pictures[index] for index in columns)) for row in whole.rows)
    return Grid(tuple(whole.headings[index] for index in columns), rows, has_real=False) if columns else None
