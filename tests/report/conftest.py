"""A run as its rooms leave it behind: small, plausible, made of real artifacts."""

import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from spin.core import schema, store
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.plan import identity_hash
from spin.miniature.renderer import render
from spin.miniature.world import split_attributes
from spin.report.request import ReportRequest
from spin.report.room import run

PROMPTS = 16
SEED = 5775709
LEVELS = {  # alignment, aesthetic, share right, Frechet, diversity, held-out error, quality of the pictures
    "data": (97.0, 8.9, 0.99, 1.2, 9.8, None, 0.95),
    "base": (86.0, 5.4, 0.70, 25.6, 9.1, 0.0262, 0.30),
    "sft": (89.9, 7.2, 0.88, 18.3, 9.3, 0.0221, 0.60),
    "iteration-01": (90.0, 7.6, 0.86, 15.5, 9.2, 0.0224, 0.72),
    "iteration-02": (90.1, 7.9, 0.92, 13.9, 9.0, 0.0229, 0.84),
    "iteration-03": (90.0, 8.05, 0.90, 13.1, 8.9, 0.0229, 0.92),
}
SCALES = {  # level of the base and its distance to the best, judge by judge
    "aesthetic": (5.4, 3.5), "hpsv2": (0.27, 0.01), "image_reward": (0.8, 0.5), "pickscore": (21.2, 1.0),
}  # fmt: skip
PAPER = ("pickscore", "hpsv2", "image_reward", "aesthetic")
SHARED = ("alignment", "aesthetic", "attributes")


@dataclass
class RunBuilder:
    """Writes a run; tests take pieces away before or after."""

    root: Path
    name: str = "miniature"
    seed: int = 0
    scorers: tuple[str, ...] = SHARED
    captions: list[str] = field(default_factory=lambda: [a.caption for a in split_attributes("test")[:PROMPTS]])
    stages: tuple[str, ...] = ("base", "sft", "iteration-01", "iteration-02", "iteration-03")
    pictures: bool = True
    benchmark: str = "test"
    protocol: str = "single"
    categories: tuple[str, ...] = ()  # of the prompts, over and over; so are the challenges
    challenges: tuple[str, ...] = ()
    further: tuple[str, ...] = ()  # `<benchmark>.<protocol>` of the evaluations beside the first

    @property
    def prompt_ids(self) -> list[str]:
        return [identity_hash("sample", index)[:32] for index in range(len(self.captions))]

    def build(self) -> Path:
        previous = None
        stages = []
        for position, stage in enumerate(self.stages):
            digest = identity_hash("weights", stage)
            stages.append(self._stage(stage, position, digest, previous))
            previous = digest
        self.write_record(self._record(stages))
        return self.root / self.name

    def write_record(self, record: dict) -> None:
        folder = RunsRoot(self.root).run(self.name)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.record.write_text(json.dumps(record, indent=1))

    def write_bare_record(self) -> None:
        """What stands before the first stage has begun."""
        self.write_record({
            "run": self.name, "config": {"iterations": 3}, "config_hash": "9f2c41d0", "seed": self.seed,
            "versions": {"python": "3.11"}, "code_version": "0.1.0", "stages": [], "stage_seconds": [],
        })  # fmt: skip

    def record(self) -> dict:
        return json.loads(RunsRoot(self.root).run(self.name).record.read_text())

    def evaluation(self, stage: str, key: str | None = None) -> EvaluationFolder:
        benchmark, protocol = key.split(".") if key else (self.benchmark, self.protocol)
        return RunsRoot(self.root).evaluation(self._digest(stage), benchmark, protocol, "0f3a")

    def _digest(self, stage: str) -> str:
        return "data-0f3a" if stage == "data" else identity_hash("weights", stage)

    def values(self, stage: str, scorer: str, draw: int = 0) -> np.ndarray:
        """What this builder writes as the scores of a stage, (PROMPTS,)."""
        rng = np.random.default_rng([self.seed, len(scorer), *stage.encode(), *([draw] if draw else [])])
        hardness = np.random.default_rng([self.seed, len(scorer)]).normal(size=len(self.captions))
        if scorer == "alignment":
            return LEVELS[stage][0] + 2.5 * hardness + 0.9 * rng.normal(size=len(hardness))
        if scorer == "attributes":
            return (rng.random(len(hardness)) < LEVELS[stage][2]).astype(float)
        place, spread = SCALES[scorer]
        quality = LEVELS[stage][1] - LEVELS["base"][1] + 0.5 * hardness + 0.15 * rng.normal(size=len(hardness))
        return place + spread * quality / 3.5

    def write_scores(
        self, stage: str, values: dict[str, np.ndarray], *, key: str | None = None, draws: dict | None = None
    ) -> None:
        """Scores of the first pictures; `draws` holds those of further ones by the number of the picture."""
        rows = [
            self.score_row(index, scorer, score, stage=stage, draw=draw)
            for draw, found in {0: values, **(draws or {})}.items()
            for scorer, scores in found.items()
            for index, score in enumerate(scores)
        ]
        commit_rows(self.evaluation(stage, key).scores(0), schema.SCORES, rows, "scores")

    def score_row(self, index: int, scorer: str, score: float, *, stage: str = "base", draw: int = 0) -> dict:
        return self._prompt(index) | {
            "seed": SEED, "draw": draw, "checkpoint": self._digest(stage), "scorer": scorer, "version": "5eed",
            "settings": "{}", "score": float(score),
        }  # fmt: skip

    def _prompt(self, index: int) -> dict:
        return {
            "prompt_id": self.prompt_ids[index], "prompt": self.captions[index],
            "category": self.categories[index % len(self.categories)] if self.categories else None,
            "challenge": self.challenges[index % len(self.challenges)] if self.challenges else None,
        }  # fmt: skip

    def _record(self, stages: list[dict]) -> dict:
        iterations = sum(stage["name"].startswith("iteration-") for stage in stages)
        return {
            "run": self.name, "config_hash": "9f2c41d0", "seed": self.seed, "code_version": "0.1.0", "stages": stages,
            "config": {"run": {"name": self.name, "seed": 0}, "iterations": iterations,
                       "data": {"source": "miniature", "target": "winners", "path": None},
                       "train": {"objective": "spin", "beta": 1000, "lr": 3e-5, "flip": False, "steps": 40},
                       "evaluation": {"split": "test", "guidance_scale": 3.0, "num_inference_steps": 20, "seed": SEED}},
            "versions": {"python": "3.11", "torch": "2.11.0", "diffusers": "0.42.0"},
            "base": {"path": "miniature", "digest": identity_hash("weights", "base")},
            "data_digest": identity_hash("data"), "prompts": {"train": 384, "validation": 128, "test": 256},
            "data": {"label": "data", **self._evaluations("data")}, "real": None,
            "quarantined": {"too small": 2},
            "stage_seconds": [row for stage in stages for row in self._seconds(stage)],
        }  # fmt: skip

    def _seconds(self, stage: dict) -> list[dict]:
        rows = [{"stage": stage["name"], "task": "evaluate", "seconds": 5.5, "images": PROMPTS}]
        if stage["training"]:
            rows.insert(0, {"stage": stage["name"], "task": "train", "seconds": 7.0, "images": 1280})
        if stage["samples"]:
            rows.insert(0, {"stage": stage["name"], "task": "sample", "seconds": 8.0, "images": 384})
        return rows

    def _stage(self, name: str, position: int, digest: str, opponent: str | None) -> dict:
        plays = name.startswith("iteration-")
        labels = {"base": "base", "sft": "SFT"}
        return {
            "name": name, "label": labels.get(name) or f"SPIN {int(name[-2:])}", "checkpoint": None, "digest": digest,
            **self._evaluations(name), "samples": {"images": 384, "seconds": 8.0} if plays else None,
            "training": self._train(name, position) if name != "base" else None, "opponent_digest": opponent,
        }  # fmt: skip

    def _evaluations(self, stage: str) -> dict:
        first = self._evaluate(stage)
        keys = {f"{self.benchmark}.{self.protocol}": first}
        keys |= {key: self._evaluate(stage, key) for key in self.further}
        return {"evaluation": first, **({"evaluations": keys} if self.further else {})}

    def _evaluate(self, stage: str, key: str | None = None) -> str:
        folder, level = self.evaluation(stage, key), LEVELS[stage]
        if self.scorers:
            more = {
                n: {scorer: self.values(stage, scorer, n) for scorer in self.scorers} for n in _draws(folder, stage)[1:]
            }
            first = {scorer: self.values(stage, scorer) for scorer in self.scorers}
            self.write_scores(stage, first, key=key, draws=more)
        sets = [
            {"metric": "frechet", "value": level[3], "images": PROMPTS},
            {"metric": "diversity", "value": level[4], "images": PROMPTS},
        ]
        commit_rows(folder.set_metrics, schema.SET_METRICS, sets, "set-metrics")
        if level[5] is not None:
            self._write_denoising(folder, stage, level[5])
        if self.pictures:
            self._write_pictures(folder, stage, level[6])
        return folder.path.relative_to(self.root).as_posix()

    def _write_denoising(self, folder: EvaluationFolder, stage: str, level: float) -> None:
        drift = max(0, list(LEVELS).index(stage) - 2)
        noise = np.random.default_rng([1, *stage.encode()])
        rows = []
        for index, prompt in enumerate(self.prompt_ids):
            common = np.random.default_rng([2, index])
            for draw in range(8):
                timestep = 60 + 125 * draw
                shape = 0.3 + 1.4 * (1 - draw / 7) + 0.2 * common.random()
                overshoot = 1 + 0.05 * drift * (draw / 7) ** 3
                error = level * shape * overshoot * (1 + 0.01 * noise.normal())
                rows.append({"prompt_id": prompt, "draw": draw, "timestep": timestep, "error": error})
        commit_rows(folder.denoising(0), schema.DENOISING, rows, "denoising")

    def _write_pictures(self, folder: EvaluationFolder, stage: str, quality: float) -> None:
        rng, count = np.random.default_rng([3, *stage.encode()]), len(self.captions)
        texts = [pa.field(name, pa.string()) for name in ("prompt_id", "prompt", "category", "challenge")]
        fields = [
            *texts,
            pa.field("seed", pa.uint64()),
            pa.field("draw", pa.int32()),
            pa.field("image", schema.IMAGE_TYPE),
        ]
        rows = [
            self._prompt(index) | {"seed": SEED, "draw": draw, "image": {"bytes": png(picture), "path": None}}
            for draw in _draws(folder, stage)
            for index, picture in enumerate(render(split_attributes("test")[:count], np.full(count, quality), rng))
        ]
        commit_rows(folder.images(0), schema.image_schema(fields, ["image"]), rows, "images")

    def _train(self, name: str, position: int) -> dict:
        stage = RunsRoot(self.root).run(self.name)
        folder = stage.sft if name == "sft" else stage.iteration(position - 1)
        steps, plays = 40 if name != "sft" else 360, name != "sft"
        rng = np.random.default_rng([4, *name.encode()])
        rows = [_log_row(step, steps, plays, rng) for step in range(1, steps + 1)]
        commit_rows(folder.training_log, schema.TRAINING_LOG, rows, "training-log")
        held = [
            {"step": step, "timestep": t, "error_start": 0.02,
             "error": 0.02 * (1 + step / steps * (0.10 * (t / 1000) ** 2 - 0.03) + 0.002 * rng.normal())}
            for step in range(0, steps + 1, steps // 8) for t in (100, 300, 500, 700, 900)
        ]  # fmt: skip
        commit_rows(folder.held_out_log, schema.HELD_OUT_LOG, held, "held-out-log")
        relative = [path.relative_to(self.root).as_posix() for path in (folder.training_log, folder.held_out_log)]
        return {"steps": steps, "pairs": 32 * steps, "seconds": 7.0, "log": relative[0], "held_out": relative[1]}


def _draws(folder: EvaluationFolder, stage: str) -> range:
    """Pictures of each prompt: five where the best is kept, of real images the one that there is."""
    return range(5 if folder.path.name.split(".")[1] == "best_of_n" and stage != "data" else 1)


def _log_row(step: int, steps: int, plays: bool, rng: np.random.Generator) -> dict:
    part = step / steps
    wobble = 1 + 0.08 * rng.normal()
    row = {"step": step, "gradient_norm": 0.4 * wobble**4, "lr": 3e-5 * min(1.0, step / 10)}
    if not plays:
        return row | {"loss": (0.03 - 0.006 * part) * wobble, "real_mse": (0.03 - 0.006 * part) * wobble}
    return row | {
        "loss": float(np.log(2)) * (1 - 0.5 * part) * wobble, "accuracy": min(1.0, 0.5 + 0.47 * part * wobble),
        "margin": 1.8 * part * wobble, "real_mse": 0.0230 * wobble * (1 - 0.02 * part),
        "real_mse_opponent": 0.0231 * wobble,
        "generated_mse": 0.0180 * wobble * (1 + 0.15 * part), "generated_mse_opponent": 0.0180 * wobble,
    }  # fmt: skip


def commit_rows(path: Path, columns: pa.Schema, rows: list[dict], kind: str) -> None:
    store.discard(path)
    store.commit(path, lambda target: schema.write_rows(target, columns, rows), kind=kind, digest=schema.content_digest)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def builder(tmp_path):
    return RunBuilder(tmp_path / "runs")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished run of three iterations, shared by tests that only read it."""
    builder = RunBuilder(tmp_path_factory.mktemp("finished") / "runs")
    builder.build()
    return builder


def report(builder):
    result = run(ReportRequest(builder.root, builder.name))
    return result, result.page.read_text("utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    builder = RunBuilder(tmp_path_factory.mktemp("report") / "runs")
    builder.build()
    return (*report(builder), builder)


def sections(page):
    return re.findall(r'<section id="(\w+)"', page)
