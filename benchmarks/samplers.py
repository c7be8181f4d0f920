"""Which sampler draws best for its time? One model, one noise a prompt, every sampler against 200 steps of a reference.

    python -m benchmarks.samplers

Draws the validation prompts of the miniature with each sampler, lets the judges score the pictures, and measures how
far each picture is from the one that 200 steps of DPM-Solver++ give from the same noise.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from flows.environment import prepare_environment
from spin.core.config import load_config
from spin.core.environment import cpu_model
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.schema import read_table
from spin.core.store import read_manifest
from spin.report.reading import read_evaluation, shards
from spin.report.results.measured import Measured, MeasuredColumn, MeasuredRow, measured_chapter, write_measured
from spin.report.subjects import values_by_prompt

JUDGES = ("alignment", "aesthetic", "attributes")
REFERENCE = ("dpmsolver++", 200)
SAMPLERS: tuple[tuple[str, int], ...] = (
    ("pndm", 50), ("ddim", 50), ("dpmsolver++", 10), ("dpmsolver++", 20), ("dpmsolver++", 50), ("unipc", 20),
    ("deis", 20),
)  # fmt: skip
_NAMES = {"pndm": "PNDM", "ddim": "DDIM", "dpmsolver++": "DPM-Solver++", "unipc": "UniPC", "deis": "DEIS"}
Pictures = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Drawn:
    """What one sampler drew: pictures and values by prompt, and seconds a picture."""

    pictures: Pictures
    values: Mapping[str, Mapping[str, float]]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="runs")
    parser.add_argument("--keep", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    root = RunsRoot(Path(options.root).absolute())
    prepare_environment(root.path)
    reference = draw(root, *REFERENCE)
    found = {sampler: draw(root, *sampler) for sampler in SAMPLERS}
    folder = options.keep / "samplers"
    write_measured(folder, told(found), scores(found, reference))
    print(measured_chapter(folder))


def draw(root: RunsRoot, scheduler: str, steps: int) -> Drawn:
    """Evaluate the base model on the validation prompts with one sampler; what stands is only read."""
    from flows.executors import executor_of  # Prefect reads its settings when it is imported
    from flows.requests import Model, Requests
    from tasks.preparing import find_base

    settings = [f"evaluation.scheduler={scheduler}", f"evaluation.num_inference_steps={steps}"]
    more = ["run.name=samplers", f"run.root={root.path}", "evaluation.benchmarks=[validation]", "iterations=0"]
    requests = Requests(load_config("miniature", overrides=[*more, *settings, "evaluation.diversity_prompts=0"]), "cpu")
    base, digest = find_base.fn("miniature")
    executor = executor_of(requests)
    prepared = executor.prepare(requests.prepare(base, digest))
    asked = requests.asked("validation", lambda: prepared, base)
    folder = EvaluationFolder(executor.evaluate(asked, Model("base", "base", base, digest)).folder)
    return _read(folder, root)


def _read(folder: EvaluationFolder, root: RunsRoot) -> Drawn:
    pictures: dict[str, Any] = {}
    seconds = images = 0.0
    for shard in shards(folder.images(0).parent):
        table = read_table(shard, ["prompt_id", "image"])
        for name, image in zip(table["prompt_id"].to_pylist(), table["image"].to_pylist(), strict=True):
            pictures[name] = np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB"), float)
        manifest = read_manifest(shard)
        assert manifest is not None
        seconds += float(manifest.environment["seconds"])
        images += len(table)
    return Drawn(pictures, values_by_prompt(read_evaluation(folder, root), JUDGES), seconds / images)


def scores(found: Mapping[tuple[str, int], Drawn], reference: Drawn) -> dict[tuple[str, str], Mapping[str, float]]:
    """By sampler and metric, a value for each prompt."""
    rows: dict[tuple[str, str], Mapping[str, float]] = {}
    for sampler, drawn in found.items():
        rows |= {(_key(sampler), judge): drawn.values[judge] for judge in JUDGES}
        rows[_key(sampler), "distance"] = {
            name: float(np.sqrt(np.mean((picture - reference.pictures[name]) ** 2)))
            for name, picture in drawn.pictures.items()
        }
    return rows


def told(found: Mapping[tuple[str, int], Drawn]) -> Measured:
    fastest = min(drawn.seconds for drawn in found.values())
    rows: Sequence[MeasuredRow] = [
        MeasuredRow(
            _key(sampler),
            f"{_NAMES[sampler[0]]} {sampler[1]}",
            (f"{1000 * drawn.seconds:.0f}", f"{drawn.seconds / fastest:.1f}"),
        )
        for sampler, drawn in found.items()
    ]
    return Measured(
        question="Which sampler draws best for its time?",
        text="The packaged base model at guidance 3, the same noise for every sampler; distance is the root mean square"
        " of the difference to 200 steps of DPM-Solver++, in levels of 0 to 255.",
        command="python -m benchmarks.samplers",
        machine=cpu_model(),
        columns=(
            MeasuredColumn("alignment", "Alignment", 2), MeasuredColumn("aesthetic", "Aesthetic", 2),
            MeasuredColumn("attributes", "Attributes, %", 1, 100.0),
            MeasuredColumn("distance", "Distance to the reference", 2),
        ),
        also=("ms a picture", "x the fastest"),
        rows=tuple(rows),
    )  # fmt: skip


def _key(sampler: tuple[str, int]) -> str:
    return f"{sampler[0]}-{sampler[1]}"


if __name__ == "__main__":
    main()
