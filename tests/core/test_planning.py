from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from spin.core import planning
from spin.core.errors import ArtifactError, DataError
from spin.core.layout import RunsRoot, StageFolder, manifest_path
from spin.core.plan import Plan, image_seed
from spin.core.planning import read_plan, read_shard_rows, train_rows, write_plan
from spin.core.schema import PROMPTS, content_digest, write_rows
from spin.core.store import commit, discard, is_intact

PlanIt = Callable[..., Plan]
VALUES: dict[str, Any] = {
    "reads": 30, "draws": 1, "shard_size": 8, "batch_size": 4, "run_seed": 0, "config_hash": "c", "code_version": "1",
    "parent_digest": "p",
}  # fmt: skip


def write_prompts(path: Path, train: int, held_out: int = 5, *, mixed: bool = False) -> Path:
    splits = ["validation"] * held_out + ["train"] * train + ["test"] * held_out
    if mixed:  # held-out rows between the train rows
        splits = [split for start in range(3) for split in splits[start::3]]
    rows = [
        {
            "sample_id": f"id {n}",
            "caption": f"caption {n}",
            "prompt_hash": f"hash {n}",
            "split": split,
            "origin": "here",
        }
        for n, split in enumerate(splits)
    ]
    discard(path)
    commit(path, lambda target: write_rows(target, PROMPTS, rows), kind="prompts", digest=content_digest)
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_prompts(tmp_path / "prompts.parquet", 20)


@pytest.fixture(scope="module")
def many_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("many") / "prompts.parquet", 20_000)


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    return RunsRoot(tmp_path).run("try").iteration(1)


@pytest.fixture
def plan_it(stage: StageFolder, prompts: Path) -> PlanIt:
    return lambda **changes: write_plan(stage, prompts=prompts, **{**VALUES, **changes})


def all_rows(stage: StageFolder) -> list[dict[str, Any]]:
    return [row for shard in range(read_plan(stage).shards) for row in read_shard_rows(stage, shard)]


def flip_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def test_a_plan_names_every_train_row_once_with_its_seed(plan_it: PlanIt, stage: StageFolder) -> None:
    plan = plan_it()
    rows = all_rows(stage)
    assert (plan.images, plan.shards) == (20, 3)
    assert sorted(row["sample_id"] for row in rows) == sorted(f"id {n}" for n in range(5, 25))
    for position, row in enumerate(rows):
        assert row["position"] == position
        assert row["shard"] == position // 8
        assert row["prompt_hash"] == row["sample_id"].replace("id", "hash")
        assert row["seed"] == image_seed(0, "iteration-01", row["sample_id"], row["draw"])


def test_a_plan_is_read_as_it_was_written(plan_it: PlanIt, stage: StageFolder) -> None:
    written = plan_it()
    assert read_plan(stage) == written


@pytest.mark.parametrize(("reads", "draws", "images"), [(7, 1, 7), (30, 1, 20), (30, 2, 30), (100, 2, 40)])
def test_only_what_training_reads_is_planned(
    plan_it: PlanIt, stage: StageFolder, reads: int, draws: int, images: int
) -> None:
    assert plan_it(reads=reads, draws=draws).images == images
    assert len({(row["sample_id"], row["draw"]) for row in all_rows(stage)}) == images


def test_the_plan_of_fewer_steps_is_a_prefix(plan_it: PlanIt, stage: StageFolder) -> None:
    plan_it(reads=40, draws=2)
    longer = all_rows(stage)
    plan_it(reads=21, draws=2)
    assert all_rows(stage) == longer[:21]


def test_seeds_do_not_depend_on_the_size_of_a_shard(plan_it: PlanIt, stage: StageFolder) -> None:
    seen = []
    for size in (1, 3, 8, 100):
        plan = plan_it(shard_size=size)
        assert plan.shards == -(-20 // size)
        seen.append([{k: v for k, v in row.items() if k != "shard"} for row in all_rows(stage)])
    assert seen[0] == seen[1] == seen[2] == seen[3]


@pytest.mark.parametrize(
    ("shard_size", "groups"), [(1, [8192, 8192, 3616]), (3000, [6000, 6000, 6000, 2000]), (9000, [9000, 9000, 2000])]
)
def test_a_row_group_holds_whole_shards(
    stage: StageFolder, many_prompts: Path, shard_size: int, groups: list[int]
) -> None:
    plan = write_plan(stage, prompts=many_prompts, **{**VALUES, "reads": 20_000, "shard_size": shard_size})
    metadata = pq.read_metadata(stage.plan_rows)
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == groups
    for shard in (0, 1, plan.shards - 2, plan.shards - 1):
        rows = read_shard_rows(stage, shard)
        assert [row["position"] for row in rows] == list(plan.shard_range(shard))
        assert {row["shard"] for row in rows} == {shard}


@pytest.mark.parametrize("limits", [{"_GROUP_ROWS": 1}, {"_GROUP_ROWS": 17, "_GROUPS_IN_WINDOW": 1}, {"_READ_ROWS": 7}])
def test_a_plan_does_not_depend_on_how_many_rows_are_held_at_once(
    plan_it: PlanIt, stage: StageFolder, prompts: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    """Every row twice, so that a window holds the end of one epoch and the start of the next."""
    write_prompts(prompts, 20, mixed=True)
    plan, expected = plan_it(reads=40, draws=2), all_rows(stage)
    assert len(expected) == 40
    discard(stage.plan_rows)
    for name, value in limits.items():
        monkeypatch.setattr(planning, name, value)
    assert plan_it(reads=40, draws=2) == plan
    assert all_rows(stage) == expected


def test_the_rows_of_a_plan_are_pinned(plan_it: PlanIt) -> None:
    """Other rows would be another plan: every standing run would be sampled anew."""
    assert plan_it().rows_digest == "5939e9e626ef1e5d37ee8a557cd00edb6a60913cea9635332e10d764acd72a6c"
    longer = plan_it(reads=40, draws=2)
    assert longer.rows_digest == "1b88749ee9d85d4c6a99319a6952f74041f080c6ca9a22f08bc7167cedc8a777"


def test_a_standing_equal_plan_is_kept(plan_it: PlanIt, stage: StageFolder) -> None:
    first = plan_it()
    before = [(p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in (stage.plan, stage.plan_rows)]
    assert plan_it() == first
    assert [(p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in (stage.plan, stage.plan_rows)] == before


def test_equal_plans_are_equal_bytes(prompts: Path, tmp_path: Path) -> None:
    stages = [RunsRoot(tmp_path / name).run("try").iteration(1) for name in ("one", "two")]
    for stage in stages:
        write_plan(stage, prompts=prompts, **VALUES)
    assert stages[0].plan.read_bytes() == stages[1].plan.read_bytes()
    assert stages[0].plan_rows.read_bytes() == stages[1].plan_rows.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"reads": 12}, {"draws": 2}, {"shard_size": 5}, {"batch_size": 2}, {"run_seed": 1}, {"config_hash": "d"},
        {"code_version": "2"}, {"parent_digest": "q"},
    ],
)  # fmt: skip
def test_a_plan_of_something_else_is_replaced_by_what_was_asked(
    plan_it: PlanIt, stage: StageFolder, change: dict[str, Any]
) -> None:
    first = plan_it()
    second = plan_it(**change)
    assert second.plan_hash != first.plan_hash
    assert read_plan(stage) == second


def test_other_prompts_give_another_plan(plan_it: PlanIt, stage: StageFolder, prompts: Path) -> None:
    first = plan_it()
    write_prompts(prompts, 21)
    second = plan_it()
    assert second.plan_hash != first.plan_hash
    assert read_plan(stage) == second
    assert len(all_rows(stage)) == 21


@pytest.mark.parametrize("name", ["plan", "plan_rows"])
def test_a_damaged_plan_is_refused_in_one_line_and_made_again(plan_it: PlanIt, stage: StageFolder, name: str) -> None:
    plan = plan_it()
    path = getattr(stage, name)
    before = path.read_bytes()
    flip_bit(path)
    with pytest.raises(ArtifactError, match="bytes differ from the manifest") as error:
        read_plan(stage)
    assert "\n" not in str(error.value)
    assert plan_it() == plan
    assert path.read_bytes() == before
    assert is_intact(path)


@pytest.mark.parametrize("name", ["plan", "plan_rows"])
def test_a_plan_that_was_never_finished_is_refused(plan_it: PlanIt, stage: StageFolder, name: str) -> None:
    plan_it()
    manifest_path(getattr(stage, name)).unlink()
    with pytest.raises(ArtifactError, match="never finished"):
        read_plan(stage)


@pytest.mark.parametrize("change", [{"images": 19}, {"parent_digest": "q"}, {"plan_hash": "0" * 32}, {"shards": 2}])
def test_a_header_that_does_not_have_the_hash_it_states_is_refused(
    plan_it: PlanIt, stage: StageFolder, change: dict[str, Any]
) -> None:
    plan_it()
    raw = json.loads(stage.plan.read_text("utf-8")) | change
    discard(stage.plan)
    commit(stage.plan, lambda path: path.write_text(json.dumps(raw)) and None, kind="plan")
    with pytest.raises(ArtifactError, match="does not have the hash it states"):
        read_plan(stage)


@pytest.mark.parametrize("content", ["[]", "{}", '{"plan_hash": "x", "other": 1}', "no json"])
def test_a_header_of_another_version_is_refused(plan_it: PlanIt, stage: StageFolder, content: str) -> None:
    plan_it()
    discard(stage.plan)
    commit(stage.plan, lambda path: path.write_text(content) and None, kind="plan")
    with pytest.raises(ArtifactError, match=r"is not a plan of this version; run again$"):
        read_plan(stage)


def test_rows_of_another_plan_are_refused(plan_it: PlanIt, stage: StageFolder, prompts: Path, tmp_path: Path) -> None:
    plan_it()
    other = RunsRoot(tmp_path / "other").run("try").iteration(1)
    write_plan(other, prompts=prompts, **{**VALUES, "run_seed": 1})
    other.plan_rows.replace(stage.plan_rows)
    manifest_path(other.plan_rows).replace(manifest_path(stage.plan_rows))
    with pytest.raises(ArtifactError, match=r"rows are not those of plan\.json"):
        read_plan(stage)


def test_an_unknown_shard_is_named_with_the_ones_there_are(plan_it: PlanIt, stage: StageFolder) -> None:
    plan_it()
    for shard in (-1, 3):
        with pytest.raises(ArtifactError, match=rf"no shard {shard}; name a shard from 0 to 2"):
            read_shard_rows(stage, shard)


def test_shard_rows_that_cannot_be_read_are_one_line(plan_it: PlanIt, stage: StageFolder) -> None:
    plan_it()
    raw = bytearray(stage.plan_rows.read_bytes())
    ids = pq.read_metadata(stage.plan_rows).row_group(0).column(1)
    raw[ids.data_page_offset + ids.total_compressed_size - 2] ^= 1  # in a page, whose checksum then differs
    stage.plan_rows.write_bytes(bytes(raw))
    with pytest.raises(ArtifactError, match="cannot be read") as error:
        read_shard_rows(stage, 0)
    assert "\n" not in str(error.value)
    stage.plan_rows.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_shard_rows(stage, 0)


def test_train_rows_are_those_of_the_train_split_in_their_order(prompts: Path) -> None:
    ids, hashes = train_rows(prompts)
    assert ids == [f"id {n}" for n in range(5, 25)]
    assert hashes == [f"hash {n}" for n in range(5, 25)]


def test_damaged_prompts_are_never_planned(plan_it: PlanIt, prompts: Path) -> None:
    flip_bit(prompts)
    with pytest.raises(ArtifactError, match="bytes differ"):
        plan_it()
    discard(prompts)
    with pytest.raises(ArtifactError, match="never finished"):
        plan_it()


def test_data_without_train_rows_is_refused(stage: StageFolder, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "none.parquet", 0)
    with pytest.raises(DataError, match="holds no train rows"):
        write_plan(stage, prompts=prompts, **VALUES)


MEASURE = """
import hashlib, sys
from pathlib import Path
import pyarrow as pa
from spin.core.layout import StageFolder
from spin.core.planning import read_plan, read_shard_rows, write_plan
from spin.core.schema import PROMPTS, write_table
from spin.core.store import commit

pa.set_cpu_count(1)  # every thread keeps memory of its own
folder, rows, step = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
prompts, stage = folder / "prompts.parquet", StageFolder(folder / "iteration-01")
if step == "write":
    ids = pa.array([hashlib.sha256(b"%d" % n).hexdigest()[:32] for n in range(rows)])
    same = [pa.array([text] * rows) for text in ("a caption of usual length, with a few words", "train", "here")]
    table = pa.table([ids, same[0], ids, same[1], same[2]], schema=PROMPTS)
    commit(prompts, lambda path: write_table(path, table), kind="prompts")
    sys.exit()
plan = write_plan(stage, prompts=prompts, reads=rows, draws=1, shard_size=128, batch_size=64, run_seed=0,
                  config_hash="c", code_version="1", parent_digest="p")
assert read_plan(stage) == plan
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024, plan.images, plan.shards, len(read_shard_rows(stage, plan.shards - 1)))
"""


@pytest.mark.system
@pytest.mark.parametrize(
    ("rows", "shards", "bound"),
    [(200_000, 1563, 45e6), pytest.param(1_000_000, 7813, 100e6, marks=pytest.mark.slow)],
)
def test_a_plan_of_many_prompts_takes_hardly_more_memory_than_one_of_few(
    tmp_path: Path, rows: int, shards: int, bound: float
) -> None:
    """Peak of a process of its own, from the kernel: `ru_maxrss` would begin with that of the tests' process."""

    def planned(count: int) -> list[int]:
        for step in ("write", "plan"):
            command = [sys.executable, "-c", MEASURE, str(tmp_path / str(count)), str(count), step]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [int(number) for number in said.split()]

    few, *_ = planned(10_000)
    many, *counts = planned(rows)
    assert counts == [rows, shards, rows - 128 * (shards - 1)]
    assert many - few < bound, f"{few / 1e6:.0f} -> {many / 1e6:.0f} MB"
