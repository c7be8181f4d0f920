"""What `quality` is asked, what it refuses before anything starts, and what came of it as people read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.table import Table

from flows.forecast_work import sampled_by
from spin.core.approximation import EXACT
from spin.core.config import Config
from spin.core.config_identity import settings_with_effect
from spin.core.config_training import TrainConfig
from spin.core.environment import code_version
from spin.core.errors import ConfigError
from spin.core.layout import RunFolder, RunsRoot
from spin.core.layout_beside import QualityFolder
from spin.core.plan import identity_hash
from spin.core.statistics import Estimate
from spin.report.quality import Quality
from tasks.showing import console

REFERENCE_STEPS: Final = 200
_EXACT_STEPS: Final = 20  # the setting's default, and the paper's
_RECIPE: Final = "approximations"  # trains from what is drawn so


@dataclass(frozen=True)
class Question:
    """A config's way to draw, the exact way that it is judged against, and a finer one that both are measured by."""

    config: Config  # of the folder in the runs root that holds the answer
    steps: int  # of the exact way
    reference: int  # steps of the finer one

    @property
    def folder(self) -> RunFolder:
        run = self.config.run
        return RunsRoot(Path(run.root).absolute()).run(run.name)

    @property
    def answer(self) -> QualityFolder:
        return QualityFolder(self.folder.path)

    @property
    def told(self) -> str:
        """What is approximated, in words."""
        own = self.config.sampling.num_inference_steps
        fewer = f"{own} solver steps instead of {self.steps}" if own < self.steps else ""
        return ", ".join(words for words in (fewer, str(self.config.sampling.approximation)) if words)


@dataclass(frozen=True)
class Answer:
    """What a question has come to."""

    question: Question
    quality: Quality
    benchmark: str
    saved: float  # share of the operations of the exact way that is left out
    images: int  # drawn by this call


def question_of(config: Config, *, steps: int | None, reference: int) -> Question:
    """The question that a config asks; refused where its sampling is exact.

    Args:
        steps: of the exact way; None for the config's own where they are not below 20, else 20.
    """
    own = config.sampling.num_inference_steps
    exact = steps or max(own, _EXACT_STEPS)
    if config.sampling.approximation == EXACT and own >= exact:
        raise ConfigError(
            f"samples exactly, in {own} steps: there is nothing to judge", where=config.run.name,
            fix="set sampling.guidance_interval, sampling.reuse_every, or sampling.num_inference_steps below 20",
        )  # fmt: skip
    if reference <= exact:
        raise ConfigError(
            f"{reference} steps are no reference for {exact}", where="--reference", fix=f"take more than {exact}"
        )
    asked = (str(sorted(settings_with_effect(config).items())), exact, reference, code_version())
    name = f"quality-{config.run.name[:40]}-{identity_hash(*asked)[:8]}"
    plain = {"run": config.run.model_copy(update={"name": name}), "iterations": 0, "train": TrainConfig()}
    return Question(config.model_copy(update=plain), exact, reference)  # the data is prepared as for no training


def saved_share(question: Question, base: Path) -> float:
    """Share of the exact way's operations in the network that is left out, counted."""
    from spin.diffusion.counting import count_drawing, count_passes  # torch: only the flow pays for it
    from spin.diffusion.skeleton import Skeleton

    skeleton, own = Skeleton.of(base), replace(sampled_by(question.config), decoded=False, encodings=0)
    exact, passes = replace(own, approximation=EXACT, steps=question.steps), count_passes(skeleton)
    drawn, whole = (count_drawing(skeleton, way, passes).denoised.total for way in (own, exact))
    return 1 - drawn / whole


def print_answer(answer: Answer) -> None:
    """A table: how far the latents are from the reference's, then the judges with their paired differences."""
    question, quality = answer.question, answer.quality
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in (f"{question.steps} exact steps", "approximated", "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    distances = [_with_interval(found) for found in (quality.default, quality.approximated)]
    table.add_row(f"to {question.reference} steps", *distances, f"x {_with_interval(quality.ratio, digits=2)}")
    table.add_row("to exact", "0", _with_interval(quality.between), "")
    for judge in quality.judges:
        means = [f"{judge.means[name]:.3f}" for name in ("default", "approximated")]
        table.add_row(judge.judge, *means, _with_interval(judge.difference, sign="+"))
    console.print(f"approximated: {question.told}", markup=False, highlight=False)
    console.print(f"left out: {answer.saved:.0%} of the network's operations, counted", highlight=False)
    console.print("", table, "", sep="\n", highlight=False)
    console.print(
        f"{quality.prompts} prompts of {answer.benchmark}; distances are root mean squares of latents, in brackets"
        f" 95 % intervals over prompts.\n{answer.images} images drawn; {question.answer.table}\n"
        f"What training makes of such images: spin-diffusion compare {_RECIPE}",
        markup=False, highlight=False,
    )  # fmt: skip


def _with_interval(found: Estimate, *, digits: int = 3, sign: str = "") -> str:
    value, low, high = (f"{number:{sign}.{digits}f}" for number in (found.value, found.low, found.high))
    return f"{value} \\[{low}, {high}]"
