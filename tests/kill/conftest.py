"""A tiny world for kill tests: 16 train rows, 2 shards of 8, 6 steps of 4 pairs; run by forked children."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from spin.core.layout import RunsRoot, StageFolder, manifest_path
from spin.core.requests import to_json
from spin.core.schema import content_digest, write_table
from spin.core.store import commit, is_intact, is_whole, read_manifest
from spin.prepare.request import PrepareRequest
from spin.sample.request import SampleRequest
from spin.train.request import TrainingSettings, TrainRequest

ROWS, STEPS, SHARDS = 16, 6, 2
SETTINGS = TrainingSettings(
    objective="spin", steps=STEPS, batch_size=4, micro_batch_size=4, lr=3e-5, warmup_steps=2, lr_schedule="constant",
    weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, max_grad_norm=1.0, caption_dropout=0.15,
    flip=False, posterior_sample=True, ema_decay=None, gradient_checkpointing=False, state_every_steps=2,
    held_out_every_steps=3, beta=1000.0, sft_weight=0.03,
)  # fmt: skip
PACKAGE = Path(__file__).resolve().parents[2]


@dataclass
class Forker:
    """The process that forks; see forker.py."""

    folder: Path
    process: subprocess.Popen[str]
    orders: dict[str, str] = field(default_factory=dict)

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**self.orders, **order}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer


@dataclass(frozen=True)
class Outcome:
    """All that must not depend on how often a run was killed."""

    samples: tuple[str, ...]
    log: str
    held_out: str
    checkpoint: str
    weights: str
    files: frozenset[str]


def first_stage(root: Path) -> StageFolder:
    return RunsRoot(root).run("try").iteration(1)


def outcome(root: Path, steps: int = STEPS) -> Outcome:
    stage = first_stage(root)
    artifacts = [stage.plan, stage.plan_rows, *map(stage.samples, range(SHARDS))]
    artifacts += [stage.training_log, stage.held_out_log, stage.checkpoint(steps)]
    assert [path.name for path in artifacts if not is_intact(path)] == []
    weights = stage.checkpoint(steps) / "unet" / "diffusion_pytorch_model.safetensors"
    logs = [sha256(path.read_bytes()).hexdigest() for path in (stage.training_log, stage.held_out_log, weights)]
    digests = [manifest.content_digest for path in artifacts if (manifest := read_manifest(path)) is not None]
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".verified")  # hints, for a while
    files = frozenset(path.relative_to(root).as_posix() for path in found)
    return Outcome(tuple(digests[:4]), logs[0], logs[1], digests[-1], logs[2], files)


def half_written(root: Path) -> list[str]:
    """Artifacts that look whole and are not; always empty."""
    manifests = root.rglob("*.manifest.json")
    named = [path.with_name(path.name.removesuffix(".manifest.json")) for path in manifests if path.name[0] != "."]
    assert all(manifest_path(path).exists() for path in named)
    return [str(path) for path in named if is_whole(path) and not is_intact(path)]


@pytest.fixture(scope="session")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """A forker whose world is prepared: data of the miniature, latents and captions encoded by its base."""
    folder = tmp_path_factory.mktemp("kill")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE)}
    script = Path(__file__).with_name("forker.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        found = Forker(folder, process)
        prepare_world(found)
        yield found
        assert process.stdin is not None
        process.stdin.close()


def prepare_world(forker: Forker) -> None:
    base = Path(sys.modules["spin"].__path__[0]) / "miniature" / "weights" / "pipeline"
    request = PrepareRequest(
        runs_root=forker.folder / "world", run="data", source="miniature", path=None, image_column="image",
        caption_column="text", target="winners", rows=ROWS, held_out_share=0.1, max_bad_share=0.1,
        max_image_pixels=89_478_485, resolution=None, base=base, base_digest="b" * 64, seed=0, device="cpu", threads=1,
    )  # fmt: skip
    (forker.folder / "prepare.json").write_bytes(to_json(request))
    prepared = forker.ask(prepare=str(forker.folder / "prepare.json"))
    prompts, real = fewer_held_out(Path(prepared["prompts"]), forker.folder), Path(prepared["real"])
    sample = SampleRequest(
        stage=forker.folder, shards=(), opponent=base, opponent_digest="b" * 64, text=real / "text.parquet",
        guidance_scale=1.0, num_inference_steps=2, batch_size=8, loser_source="latents", store_images=False,
        compile=False, device="cpu", dtype="float32", threads=1,
    )  # fmt: skip
    train = TrainRequest(
        stage=forker.folder, start=base, start_digest="b" * 64, prompts=prompts, real=real / "real.parquet",
        text=real / "text.parquet", draws=1, run_seed=0, settings=SETTINGS, device="cpu", dtype="float32", threads=1,
    )  # fmt: skip
    for name, message in (("sample", sample), ("train", train)):
        (forker.folder / f"{name}.json").write_bytes(to_json(message))
        forker.orders[name] = str(forker.folder / f"{name}.json")


def fewer_held_out(prompts: Path, folder: Path) -> Path:
    """The train rows and four validation rows, so that measuring held-out error takes no time."""
    table = pq.read_table(prompts, partitioning=None)
    parts = [table.filter(pc.equal(table["split"], split)) for split in ("train", "validation")]
    few = pa.concat_tables([parts[0], parts[1].slice(0, 4)])
    path = folder / "prompts.parquet"
    commit(path, lambda target: write_table(target, few), kind="prompts", digest=content_digest)
    return path


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbed: what came of it, the store's steps and its duration."""

    outcome: Outcome
    events: list[tuple[str, str]]
    seconds: float


def run_undisturbed(forker: Forker, root: Path, steps: int = STEPS) -> Undisturbed:
    answer = forker.ask(root=str(root), steps=steps)
    assert (answer["code"], answer["made"], answer["steps"]) == (0, [0, 1], steps)
    return Undisturbed(outcome(root, steps), [tuple(event) for event in answer["events"]], answer["seconds"])


@pytest.fixture(scope="session")
def undisturbed(forker: Forker) -> Undisturbed:
    return run_undisturbed(forker, forker.folder / "undisturbed")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A runs root that does not outlive its test: a checkpoint a test is too much for a disk."""
    yield tmp_path / "runs"
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
