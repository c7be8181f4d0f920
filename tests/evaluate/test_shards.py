"""What a flow can know of an evaluation without torch: its folder, its shards, and which of them are missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spin.core.approximation import Approximation
from spin.core.errors import ArtifactError, DataError
from spin.core.layout import EvaluationFolder, manifest_path
from spin.core.requests import from_json, to_json
from spin.core.store import discard, read_manifest, stands
from spin.evaluate import shards
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.room import run
from spin.evaluate.shards import (
    evaluation_folder,
    is_finished,
    missing_parts,
    missing_shards,
    named_shards,
    part_identity,
    set_identity,
    shard_count,
)
from spin.miniature.judge_weights import judges_digest
from tests.evaluate.conftest import Ask, request_for
from tests.world import World, fingerprint

Evaluated = tuple[EvaluateRequest, EvaluateResult]
Copy = tuple[EvaluateRequest, EvaluationFolder]
PARTS = ("images", "quarantine", "scores", "denoising")


@pytest.fixture(scope="module")
def split(world: World, tmp_path_factory: pytest.TempPathFactory) -> EvaluateRequest:
    """The base on six prompts in shards of 4 and 2; nobody writes there."""
    request = replace(request_for(world, tmp_path_factory.mktemp("split")), shard_size=4)
    run(request)
    return request


@pytest.fixture
def copy(split: EvaluateRequest, tmp_path: Path) -> Copy:
    """The same, free to damage."""
    shutil.copytree(split.runs_root, tmp_path / "runs")
    request = replace(split, runs_root=tmp_path / "runs")
    return request, evaluation_folder(request)


@pytest.mark.parametrize(
    ("prompts", "size", "count"), [(6, 1000, 1), (6, 6, 1), (6, 5, 2), (6, 1, 6), (None, 128, 2), (None, 100, 3)]
)
def test_the_number_of_shards_is_that_of_the_rows_of_the_split(
    ask: Ask, prompts: int | None, size: int, count: int
) -> None:
    assert shard_count(ask(max_prompts=prompts, shard_size=size, shards=(0,))) == count


def test_before_anything_is_made_every_shard_is_missing(ask: Ask, ask_data: Ask) -> None:
    assert missing_shards(ask(shard_size=4)) == (0, 1)
    assert missing_parts(ask(shard_size=4), 1) == ("images", "quarantine", "scores", "denoising")
    assert missing_parts(ask_data(shard_size=4), 1) == ("images", "quarantine", "scores")
    assert not is_finished(ask(shard_size=4))
    assert not evaluation_folder(ask()).path.exists()


def test_a_finished_evaluation_lacks_nothing_whichever_shards_are_named(split: EvaluateRequest) -> None:
    before = fingerprint(split.runs_root)
    for request in (split, replace(split, shards=(1,), finish=False), replace(split, shards=())):
        assert missing_shards(request) == ()
        assert is_finished(request)
        assert is_finished(request, check=stands)
    assert fingerprint(split.runs_root) == before


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("loss", ["file", "manifest", "both", "cut"])
def test_a_shard_with_a_lost_part_is_missing(copy: Copy, part: str, loss: str) -> None:
    request, folder = copy
    path: Path = getattr(folder, part)(1)
    if loss == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    if loss in ("file", "both"):
        path.unlink()
    if loss in ("manifest", "both"):
        manifest_path(path).unlink()
    assert missing_shards(request) == (1,)
    assert missing_shards(replace(request, shards=(0,), finish=False)) == (1,)
    assert missing_parts(request, 0) == ()
    # scores cannot be told to be of pictures that no manifest names
    unnamed = part == "images" and loss in ("manifest", "both")
    assert missing_parts(request, 1) == (("images", "quarantine", "scores") if unnamed else (part,))
    assert not is_finished(request)


def test_a_damaged_manifest_is_a_missing_part_and_no_error(copy: Copy) -> None:
    request, folder = copy
    manifest_path(folder.images(0)).write_text("{")
    assert missing_parts(request, 0) == ("images", "quarantine", "scores")
    assert not is_finished(request)


def test_without_the_numbers_of_the_set_it_is_not_finished_though_no_shard_is_missing(copy: Copy) -> None:
    request, folder = copy
    discard(folder.set_metrics)
    assert missing_shards(request) == ()
    assert not is_finished(request)


def test_one_flipped_bit_is_found_by_the_deep_check_only(copy: Copy) -> None:
    request, folder = copy
    path = folder.scores(1)
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    assert is_finished(request)
    assert missing_shards(request, check=stands) == (1,)
    assert not is_finished(request, check=stands)


def test_a_shard_under_the_name_of_another_is_missing(copy: Copy) -> None:
    request, folder = copy
    for path, other in ((folder.images(1), folder.images(0)), (folder.scores(1), folder.scores(0))):
        discard(path)
        shutil.copy(other, path)
        shutil.copy(manifest_path(other), manifest_path(path))
    assert missing_parts(request, 1) == ("images", "quarantine", "scores")


def test_the_room_commits_under_the_identities_that_are_computed_here(split: EvaluateRequest) -> None:
    folder = evaluation_folder(split)
    digests = []
    for shard in (0, 1):
        manifests = {part: read_manifest(getattr(folder, part)(shard)) for part in PARTS}
        assert {part: dict(m.identity) for part, m in manifests.items()} == {
            part: part_identity(split, shard, part) for part in manifests
        }
        assert manifests["scores"].identity["images"] == manifests["images"].content_digest
        digests.append(manifests["images"].content_digest)
    assert len(set(digests)) == 2
    assert read_manifest(folder.set_metrics).identity == set_identity(split, 2)
    assert set_identity(split, 2)["images"] == digests


def test_named_shards_come_once_and_in_order(ask: Ask) -> None:
    assert named_shards(ask(), 3) == (0, 1, 2)
    assert named_shards(ask(shards=(2, 0, 2)), 3) == (0, 2)
    assert named_shards(ask(shards=()), 3) == ()


@pytest.mark.parametrize("shard", [-1, 3])
def test_an_unknown_shard_names_those_that_there_are(ask: Ask, shard: int) -> None:
    with pytest.raises(ArtifactError, match=f"no shard {shard}; name a shard from 0 to 2"):
        named_shards(ask(shards=(0, shard)), 3)


def test_a_split_without_rows_is_one_clear_line(ask: Ask) -> None:
    with pytest.raises(DataError, match=r"held-out\.parquet: no rows in split 'nothing'; raise data\.held_out_share"):
        missing_shards(ask(benchmark="nothing"))


def test_damaged_held_out_images_are_not_counted(ask: Ask, world: World, tmp_path: Path) -> None:
    shutil.copytree(world.cache.path, tmp_path / "real")
    path = tmp_path / "real" / "held-out.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    with pytest.raises(ArtifactError, match=r"held-out\.parquet: bytes differ from the manifest"):
        shard_count(ask(real=tmp_path / "real"))


def test_planning_needs_no_torch(copy: Copy, tmp_path: Path) -> None:
    request, folder = copy
    discard(folder.denoising(1))
    path = tmp_path / "request.json"
    path.write_bytes(to_json(request))
    assert from_json(EvaluateRequest, path) == request
    code = (
        "import sys\nfrom pathlib import Path\nfrom spin.core.requests import from_json\n"
        "from spin.evaluate.request import EvaluateRequest\n"
        "from spin.evaluate.shards import evaluation_folder, is_finished, missing_shards\n"
        f"request = from_json(EvaluateRequest, Path({str(path)!r}))\n"
        "print(evaluation_folder(request).path, missing_shards(request), is_finished(request), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{folder.path} (1,) False False\n"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6}, {"guidance_scale": 1.0}, {"num_inference_steps": 3}, {"benchmark": "validation"},
        {"max_prompts": 7}, {"denoising_draws": 4}, {"protocol": "best_of_n"}, {"scheduler": "pndm"},
        {"hps_version": "v2.1"}, {"hps_antialias": False}, {"scorer_dtype": "bfloat16"}, {"diversity_prompts": 1},
        {"batch_size": 5}, {"shard_size": 5}, {"dtype": "bfloat16"},
        {"scorers": ("alignment",)}, {"data_digest": "e" * 64}, {"subject_digest": "f" * 64},
    ],
)  # fmt: skip
def test_whatever_changes_a_number_or_a_file_changes_the_folder(ask: Ask, change: dict[str, Any]) -> None:
    assert evaluation_folder(ask(**change)).path != evaluation_folder(ask()).path


def test_approximated_pictures_are_of_the_code_that_drew_them(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = ask(), ask(approximation=Approximation(reuse_every=2))
    before = [evaluation_folder(request).path for request in requests]
    monkeypatch.setattr(shards, "code_version", lambda: "other")
    after = [evaluation_folder(request).path for request in requests]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]
    assert before[0] != before[1]


def test_where_a_run_stands_and_how_it_is_computed_changes_nothing(ask: Ask, tmp_path: Path) -> None:
    folder = evaluation_folder(ask()).path
    moved = ask(runs_root=tmp_path / "moved", subject=tmp_path, threads=7, shards=(0,), finish=False)
    assert evaluation_folder(moved).path.relative_to(tmp_path / "moved") == folder.relative_to(tmp_path / "runs")


def test_the_judges_digest_stands_in_folder_and_identity(
    evaluated: Evaluated, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, result = evaluated
    manifest = read_manifest(EvaluationFolder(result.folder).scores(0))
    assert manifest is not None
    assert manifest.identity["settings"]["versions"]["alignment"] == judges_digest()
    assert manifest.identity["subject"] == request.subject_digest
    before = evaluation_folder(ask()).path
    monkeypatch.setattr(shards, "judges_digest", lambda: "other judges")
    assert evaluation_folder(ask()).path != before
