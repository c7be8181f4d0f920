"""`export-lora`: what a run's LoRA stages have learned, as one file that other programs open."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from spin.core.adapters import ADAPTER_FILE, Way, way_between
from spin.core.draft import draft_path, fill
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import RunsRoot
from spin.core.record import Record, read_run_record
from spin.diffusion.families.registry import family_of, read_configs

Form = Literal["diffusers", "kohya"]
_SUFFIX: Final = ".safetensors"


def export_lora(root: Path, run: str, *, stage: str | None, start: str, form: Form, into: Path) -> str:
    """Write the adapter from one model of a run to another; a line that tells what was written.

    Args:
        stage: whose model; None for the newest.
        start: name of the model that the adapter is laid over.
        into: a .safetensors file that is not there yet, or a folder.
    """
    runs = RunsRoot(root.absolute())
    record = read_run_record(runs.run(run))
    way = way_between(runs, record, start=start, end=stage)
    target = _target(into, f"{run}-{way.end.name}{_SUFFIX}" if form == "kohya" else ADAPTER_FILE)
    _write(way, form, target, _notes(record, way))
    stages = " + ".join(way.stages)
    return f"wrote {target}: {stages}, to lay over {way.start.name} ({way.start.folder}), as {form}"


def _target(into: Path, name: str) -> Path:
    target = into if into.suffix == _SUFFIX else into / name
    if target.exists():
        raise ConfigError("is there already", where=str(target), fix="name another --into, or take it away")
    return target


def _write(way: Way, form: Form, target: Path, notes: dict[str, str]) -> None:
    from spin.diffusion.adapter import as_diffusers, read_adapter, summed, write_weights  # torch and diffusers: 4 s
    from spin.diffusion.kohya import as_kohya, kohya_notes

    family, draft = family_of(way.end.folder), draft_path(target)
    adapter = summed([read_adapter(folder, family) for folder in way.adapters])
    if form == "kohya":
        weights, notes = as_kohya(adapter, family, read_configs(way.end.folder)), notes | kohya_notes(adapter)
    else:
        weights = as_diffusers(adapter, family)
    try:
        fill(draft, lambda path: write_weights(path, weights, notes=notes))
        draft.rename(target)
    except OSError as error:
        raise ArtifactError(f"cannot write: {error.strerror}", where=str(target), fix="free space or rights") from error
    finally:
        draft.unlink(missing_ok=True)


def _notes(record: Record, way: Way) -> dict[str, str]:
    """The file's header: what the adapter is laid over, and where it is from. No place of this machine."""
    base = str(((record.get("config") or {}).get("model") or {}).get("base", ""))
    local = base.startswith(("/", ".", "~"))
    return {
        "base_model": Path(base).name if local else base,
        "relative_to": way.start.name,
        "relative_to_digest": way.start.digest,
        "run": str(record["run"]),
        "stages": ", ".join(way.stages),
        "merged_digest": way.end.digest,
    }
