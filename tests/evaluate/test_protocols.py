"""The paper's protocol against plain diffusers, and the two protocols side by side."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline

from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.schema import PROMPT_SET, content_digest, read_table, write_rows
from spin.core.store import commit
from spin.diffusion.noise import drawn_noise, initial_noise
from spin.diffusion.pictures import decode_image
from spin.evaluate.room import run
from spin.evaluate.shards import evaluation_folder, prompts_in_shard
from spin.report.reading import read_evaluation
from spin.report.subjects import judges_of, values_by_prompt
from tests.evaluate.conftest import Ask
from tests.evaluate.judge_folder import write_judges
from tests.world import World


def read(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("images/*.parquet")) for row in read_table(path).to_pylist()]


def test_best_of_n_draws_what_diffusers_draws_from_one_generator(ask: Ask, world: World) -> None:
    """num_images_per_prompt=5, guidance 7.5, PNDM, one generator seeded anew for each prompt."""
    request = ask(
        protocol="best_of_n", images_per_prompt=5, seed=5775709, guidance_scale=7.5, scheduler="pndm",
        num_inference_steps=6, max_prompts=3, batch_size=5, scorers=("aesthetic",),
    )  # fmt: skip
    found = read(EvaluationFolder(run(request).folder).path)
    pipeline = StableDiffusionPipeline.from_pretrained(world.base, torch_dtype=torch.float32)
    pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config, skip_prk_steps=True)
    pipeline.set_progress_bar_config(disable=True)
    assert [(row["seed"], row["draw"]) for row in found] == [(5775709, draw) for _ in range(3) for draw in range(5)]
    for start in range(0, 15, 5):
        generator = torch.Generator().manual_seed(5775709)
        expected = pipeline(
            found[start]["prompt"], num_images_per_prompt=5, guidance_scale=7.5, num_inference_steps=6,
            generator=generator, output_type="np",
        ).images  # fmt: skip
        for row, pixels in zip(found[start : start + 5], expected, strict=True):
            ours = decode_image(row["image"]["bytes"]).astype(int)
            assert np.abs(ours - (pixels * 255).round().astype(int)).max() <= 1


def test_pictures_of_one_generator_are_its_draws_in_order() -> None:
    for shape in ((4, 8, 8), (16, 4, 4), (4, 5, 5), (4, 33, 33)):  # the last two: no multiples of 16
        whole = torch.randn((5, *shape), generator=torch.Generator().manual_seed(9))
        assert torch.equal(drawn_noise([(9, draw, 5) for draw in range(5)], shape), whole)
        assert torch.equal(initial_noise([9], shape), drawn_noise([(9, 0, 1)], shape))


def test_the_protocols_stand_apart_and_share_nothing(ask: Ask) -> None:
    one, best = (ask(protocol=protocol, max_prompts=2) for protocol in ("single", "best_of_n"))
    assert evaluation_folder(one).protocol == "single"
    assert evaluation_folder(best).protocol == "best_of_n"
    assert evaluation_folder(one).benchmark == evaluation_folder(best).benchmark == "test"
    assert evaluation_folder(one).path != evaluation_folder(best).path


def test_single_draws_further_pictures_of_some_prompts_and_leaves_the_first_ones_as_they_are(ask: Ask) -> None:
    plain, varied = (EvaluationFolder(run(ask(diversity_prompts=count, diversity_images=3)).folder) for count in (0, 2))
    firsts = [row for row in read(varied.path) if row["draw"] == 0]
    assert len(read(varied.path)) == 6 + 2 * 2
    assert [row["prompt_id"] for row in firsts] == [row["prompt_id"] for row in read(plain.path)]
    for mine, theirs in zip(firsts, read(plain.path), strict=True):
        pixels = [decode_image(row["image"]["bytes"]).astype(int) for row in (mine, theirs)]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1  # another place in the batch
    scorers = Counter(row["scorer"] for row in read_table(varied.scores(0)).to_pylist())
    assert scorers == {"alignment": 10, "aesthetic": 10, "attributes": 10, "diversity": 2}


def test_a_shard_holds_whole_prompts(ask: Ask) -> None:
    request = ask(protocol="best_of_n", images_per_prompt=3, shard_size=7, max_prompts=5, scorers=("aesthetic",))
    assert prompts_in_shard(request) == 2
    folder = EvaluationFolder(run(request).folder)
    counts = [read_table(folder.images(shard)).num_rows for shard in range(3)]
    assert counts == [6, 6, 3]
    assert prompts_in_shard(ask(protocol="best_of_n", images_per_prompt=9, shard_size=7)) == 1


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_judges(tmp_path_factory.mktemp("judges"))


def test_a_prompt_set_is_judged_by_the_published_judges(ask: Ask, judges: Path, tmp_path: Path) -> None:
    """The way of an SD-1.5 run in small: prompts with categories, best of three, four judges, no real images."""
    path = tmp_path / "prompts.parquet"
    prompts = [
        {"prompt_id": f"p{i}", "prompt": f"a red fox number {i}", "category": "Animals", "challenge": "Basic",
         "tokens": None, "truncated": None, "origin": f"x:{i}"} for i in range(3)
    ]  # fmt: skip
    commit(path, lambda target: write_rows(target, PROMPT_SET, prompts), kind="prompts", digest=content_digest)
    names = ("pickscore", "hpsv2", "image_reward", "aesthetic")
    request = ask(
        benchmark="mine", prompts=path, real=None, protocol="best_of_n", images_per_prompt=3, judges="published",
        scorers=(*names, "diversity"), scorers_folder=judges, max_prompts=None,
    )  # fmt: skip
    result = run(request)
    assert (result.images_made, result.images_scored) == (9, 9)
    folder = EvaluationFolder(result.folder)
    assert not folder.denoising(0).exists()
    assert read_table(folder.set_metrics).num_rows == 0
    rows = read_table(folder.scores(0)).to_pylist()
    assert Counter(row["scorer"] for row in rows) == {**dict.fromkeys(names, 9), "diversity": 3}
    assert {(row["category"], row["challenge"], row["checkpoint"]) for row in rows} == {
        ("Animals", "Basic", request.subject_digest)
    }
    assert {row["settings"] for row in rows if row["scorer"] == "hpsv2"} == {
        '{"dtype": "float32", "hps_antialias": true, "hps_version": "v2.0"}'
    }
    found = read_evaluation(folder, RunsRoot(request.runs_root))
    kept = values_by_prompt(found, judges_of(found.scores))
    raw = {(row["prompt_id"], row["draw"], row["scorer"]): row["score"] for row in rows}
    for prompt in ("p0", "p1", "p2"):
        means = [np.mean([raw[prompt, draw, name] for name in names]) for draw in range(3)]
        assert {name: kept[name][prompt] for name in names} == {
            name: raw[prompt, int(np.argmax(means)), name] for name in names
        }
    assert run(request).images_made == 0


def test_a_judge_in_bfloat16_is_another_evaluation_with_near_scores(ask: Ask, judges: Path) -> None:
    scores = {}
    for dtype in ("float32", "bfloat16"):
        request = ask(judges="published", scorers=("hpsv2",), scorers_folder=judges, scorer_dtype=dtype)
        table = read_table(EvaluationFolder(run(request).folder).scores(0)).to_pylist()
        scores[dtype] = [row["score"] for row in table]
        assert {f'"dtype": "{dtype}"' in row["settings"] for row in table} == {True}
    assert scores["float32"] != scores["bfloat16"]
    assert scores["float32"] == pytest.approx(scores["bfloat16"], abs=0.02)
