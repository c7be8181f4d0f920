"""An approximation of sampling against exact sampling: the same prompts, noise and weights, drawn in three ways.

Drawing and judging are the evaluate room's, so that pictures which stand are never drawn again; nothing is trained.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed

from flows.approximating import Answer, Question, question_of, saved_share
from flows.asking import Asked
from flows.entering import only_one, refuse_misfits
from flows.executors import Local
from flows.naming import named, tag_run
from flows.requests import Model, Requests
from spin.core.approximation import EXACT, Approximation
from spin.core.config import config_from_mapping
from spin.core.config_rules import DIVERSITY, SET_METRICS
from spin.core.layout import EvaluationFolder
from spin.core.record import COMPARISON, open_record, relative, write_record
from spin.core.store import read_manifest
from spin.evaluate.request import EvaluateRequest
from spin.prepare.request import PrepareResult
from spin.report.quality import measure_quality, write_quality
from tasks.launching import find_device
from tasks.preparing import find_base


@dataclass(frozen=True)
class DrawnSo(Requests):
    """Requests of a run whose judged pictures are drawn as its opponent's, one a prompt, and their latents kept."""

    steps: int = 20
    approximation: Approximation = EXACT

    def evaluate(
        self, asked: Asked, subject: Model | None, shards: tuple[int, ...] | None = None, *, finish: bool = False
    ) -> EvaluateRequest:
        request, sampling = super().evaluate(asked, subject, shards, finish=finish), self.config.sampling
        return replace(
            request, protocol="single", diversity_prompts=0, denoising_draws=0, safety=None, store_latents=True,
            scorers=tuple(name for name in request.scorers if name not in (*SET_METRICS, DIVERSITY)),
            scheduler=sampling.scheduler, guidance_scale=sampling.guidance_scale, num_inference_steps=self.steps,
            approximation=self.approximation,
        )  # fmt: skip


@flow(name="quality", flow_run_name=named(lambda given: f"quality {given['config']['run']['name']}"),
      persist_result=False)  # fmt: skip
def quality(config: dict[str, Any], steps: int | None = None, reference: int = 200) -> Any:  # a state with an Answer
    """Draw the first benchmark's prompts exactly, as the config draws, and in many steps; judge and measure them."""
    question = question_of(config_from_mapping(config, where="quality"), steps=steps, reference=reference)
    device = find_device(question.config.execution.device)
    tag_run("spin-diffusion", question.config.run.name)
    with only_one(question.folder):
        base = Model("base", "base", *find_base(question.config.model.base))
        refuse_misfits(question.config, base.folder)
        record = open_record(question.folder, question.config)
        record |= {"kind": COMPARISON, "base": {"path": str(base.folder), "digest": base.digest}}
        write_record(question.folder, record)
        asked = _asked(Requests(question.config, device), base)
        folders, images = {}, 0
        for name, requests in _ways(question, device).items():
            result = Local(requests).evaluate(asked, replace(base, label=name))
            folders[name], images = EvaluationFolder(result.folder), images + result.images_made
        answer = _measure(question, folders, base.folder, images)
    done = f"{images} images drawn" if images else "nothing to do: 0 images"
    return Completed(message=f"{done}; {question.config.run.name}", data=answer)


def _asked(requests: Requests, base: Model) -> Asked:
    """The prompts of the first benchmark; data is prepared only where they are rows of it."""

    def prepared() -> PrepareResult:
        return Local(requests).prepare(requests.prepare(base.folder, base.digest))

    return requests.asked(requests.config.evaluation.benchmarks[0], prepared, base.folder)


def _ways(question: Question, device: str) -> dict[str, DrawnSo]:
    """The variants of `spin.report.quality`."""
    config = question.config
    sampling = config.sampling
    return {
        "default": DrawnSo(config, device, question.steps),
        "approximated": DrawnSo(config, device, sampling.num_inference_steps, sampling.approximation),
        "reference": DrawnSo(config, device, question.reference),
    }


def _measure(question: Question, folders: dict[str, EvaluationFolder], base: Path, images: int) -> Answer:
    found, columns = measure_quality(folders)
    saved, benchmark = saved_share(question, base), folders["default"].benchmark
    facts = {
        "approximated": question.told, "steps": question.steps, "reference": question.reference, "saved": saved,
        "benchmark": benchmark, "quality": asdict(found),
        "drawn": {name: _drawn(folder, question) for name, folder in folders.items()},
    }  # fmt: skip
    write_quality(question.answer, facts, columns)
    return Answer(question, found, benchmark, saved, images)


def _drawn(folder: EvaluationFolder, question: Question) -> dict[str, Any]:
    """Which pictures: where they stand, and their digests."""
    manifest = read_manifest(folder.set_metrics)
    assert manifest is not None  # the evaluation is whole
    return {"folder": relative(folder.path, question.folder.root), "images": manifest.identity["images"]}
