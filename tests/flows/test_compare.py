"""Arms side by side: equal budgets, nothing made twice, what may not be compared refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.entering import only_one
from spin.core.errors import ConfigError, DataError, TrainingError
from spin.core.layout import RunsRoot
from spin.core.layout_beside import ComparisonFolder
from spin.core.recipe_file import load_recipe
from spin.core.record import read_record
from spin.report.results.facts import read_facts
from tests.families import build
from tests.flows.command_line import type_in

pytestmark = pytest.mark.system

RECIPE = """\
name: versus
question: Does self-play beat supervised fine-tuning?
seeds: [0]
average: [alignment, aesthetic]
settings:
  data: {rows: 24}
  sft: {steps: 3, batch_size: 4}
  train: {batch_size: 8, micro_batch_size: 8}
  sampling: {num_inference_steps: 2, batch_size: 4, shard_size: 8}
  evaluation: {num_inference_steps: 2, prompts: 8, shard_size: 5, denoising_draws: 1, diversity_prompts: 0}
measure: sft
rates: {pair: 2, sampled_image: 6}
arms:
  sft: {label: SFT, settings: {iterations: 0, sft: {steps: 30}}}
  spin: {label: SPIN, settings: {iterations: 1}, budget: {by: images}, rows: all}
  hard: {label: SPIN hard, settings: {iterations: 1, train: {beta: 5000}}, budget: {by: time}}
  theirs: {label: Theirs, checkpoint: miniature}
claims:
  - {says: SPIN is above SFT., model: spin, over: sft}
"""


@dataclass(frozen=True)
class Compared:
    root: Path
    recipe: Path
    folder: ComparisonFolder
    message: str


def compare(recipe: Path, root: Path) -> Any:
    from flows.compare import compare as flow

    return flow(str(recipe), root=str(root), return_state=True)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compare")
    recipe, root = folder / "versus.yaml", folder / "runs"
    recipe.write_text(RECIPE)
    state = compare(recipe, root)
    state.result()
    return Compared(root, recipe, RunsRoot(root).comparison("versus"), state.message)


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet") if ".prefect" not in path.parts}


def test_every_arm_is_a_run_with_the_steps_that_its_budget_gives(compared: Compared) -> None:
    assert compared.message == "3 runs; versus"
    facts = read_facts(compared.folder.path)
    planned = {run.arm: (run.planned["images"], run.planned["sampled"]) for run in facts.runs}
    # 12 + 8 n <= 120 images; 12 + 16 n + 24 x 6 x 2/20 <= 120 supervised images of device time
    assert planned == {"sft": (120, 0), "spin": (116, 24), "hard": (52, 24)}
    runs = {arm: read_record(RunsRoot(compared.root).run(f"versus.{arm}.0")) for arm in planned}
    assert [runs[arm]["config"]["train"]["steps"] for arm in ("spin", "hard")] == [13, 5]


def test_what_two_arms_share_is_made_once(compared: Compared) -> None:
    root = RunsRoot(compared.root)
    one, other = (root.run(f"versus.{arm}.0") for arm in ("spin", "hard"))
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (one.sft.checkpoint(3) / weights).samefile(other.sft.checkpoint(3) / weights)
    assert one.iteration(1).samples(0).samefile(other.iteration(1).samples(0))
    assert not other.sft.states.exists()  # nobody trained here
    evaluated = [path.name for path in (compared.root / "evaluations").iterdir() if path.is_dir()]
    assert len(evaluated) == 6  # real images, base, SFT, the shared start, two rounds: the checkpoint is the base
    assert sorted(path.parent.name for path in compared.root.glob("*/run.json")) == [
        "versus.data", "versus.hard.0", "versus.sft.0", "versus.spin.0",
    ]  # fmt: skip


def test_the_page_tells_claims_tables_and_costs(compared: Compared) -> None:
    text = compared.folder.page.read_text("utf-8")
    assert "SPIN is above SFT. Average z: " in text
    for row in ("| base |", "| SFT |", "| SPIN, iteration 1 |", "| SPIN hard |", "| Theirs |"):
        assert row in text
    assert compared.folder.pictures.read_bytes().startswith(b"\x89PNG")
    costs = text[text.index("cost, mean over seeds") :]
    assert "| SPIN, iteration 1 | 1 x training images | 116 | 24 |" in costs


def test_a_checkpoint_made_elsewhere_is_a_row_like_any_other(compared: Compared) -> None:
    from spin.report.results.study import Study

    study = Study(compared.folder.path)
    found = study.difference("theirs/checkpoint", "base", "aesthetic")  # here it is the base itself
    assert found is not None
    assert (found.estimate.value, found.prompts) == (0.0, 8)


def test_a_second_call_makes_nothing(compared: Compared) -> None:
    before = files(compared.root)
    answer = type_in(compared.root.parent, "compare", str(compared.recipe), "--keep", "kept")
    assert (answer.code, answer.err) == (0, "")
    ours = {compared.folder.path / "scores.parquet"}  # written anew, in the same bytes
    assert {path: time for path, time in files(compared.root).items() if path not in ours} == {
        path: time for path, time in before.items() if path not in ours
    }
    kept = compared.root.parent / "kept" / "versus"
    assert sorted(path.name for path in kept.iterdir()) == ["comparison.json", "scores.parquet"]
    assert (kept / "scores.parquet").read_bytes() == (compared.folder.path / "scores.parquet").read_bytes()


def test_the_plan_is_told_before_anything_is_spent(compared: Compared, tmp_path: Path) -> None:
    answer = type_in(tmp_path, "plan", str(compared.recipe), "--root", "elsewhere")
    assert answer.code == 0
    assert "CPU hours" in answer.out
    assert all(number in answer.out for number in ("120", "116", "52"))  # training images, as the runs read them
    assert not list(tmp_path.glob("*/versus*"))


def refused(tmp_path: Path, text: str, root: Path | None = None) -> str:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises((ConfigError, DataError)) as caught:
        compare(recipe, root or tmp_path / "runs").result()
    return str(caught.value)


def test_unequal_budgets_are_refused_with_line_and_numbers(tmp_path: Path) -> None:
    line = refused(tmp_path, RECIPE.replace("{iterations: 1}, budget", "{iterations: 1, train: {steps: 40}}, budget"))
    assert line.startswith(f"{tmp_path}/recipe.yaml:15:")
    assert "unequal budgets: arm 'spin' spends 332 training images, its budget against 'sft' is 120" in line


def test_prompts_that_leak_from_training_are_refused(tmp_path: Path, compared: Compared) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(RunsRoot(compared.root).run("versus.sft.0").prompts).to_pylist()
    leaked = next(row["caption"] for row in table if row["split"] == "train")
    prompts = tmp_path / "mine.txt"
    prompts.write_text(f"a kite\n{leaked.upper()}\n")
    own = f"{{benchmarks: [{prompts}], num_inference_steps: 2, prompts"
    line = refused(tmp_path, RECIPE.replace("{num_inference_steps: 2, prompts", own))
    assert "prompts leak from training into the test" in line


def test_a_checkpoint_of_another_family_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    build("sdxl").save_pretrained(model)
    line = refused(tmp_path, RECIPE.replace("checkpoint: miniature", f"checkpoint: {model}"))
    said = "arm 'theirs' is of another family than the base model: pipeline StableDiffusionXLPipeline against Stable"
    assert said in line


def test_a_run_with_the_recipes_name_is_not_overwritten(tmp_path: Path) -> None:
    record = RunsRoot(tmp_path / "runs").run("versus").record
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert "a run has the name 'versus'" in refused(tmp_path, RECIPE)


def test_only_the_place_of_the_work_is_set_beside_a_recipe(compared: Compared, tmp_path: Path) -> None:
    answer = type_in(tmp_path, "compare", str(compared.recipe), "--set", "train.beta=3")
    assert (answer.code, answer.out) == (2, "")
    assert "all else stands in the recipe; set execution.*, data.*, model.base only" in answer.err


@pytest.mark.slow
def test_seeds_are_played_one_by_one_and_the_page_says_how_many(tmp_path: Path) -> None:
    recipe, root = tmp_path / "versus.yaml", tmp_path / "runs"
    recipe.write_text(RECIPE.replace("seeds: [0]", "seeds: [0, 1]"))
    from flows.compare import compare as flow

    state: Any = flow(str(recipe), seeds=[1], root=str(root), return_state=True)
    assert state.message == "3 runs; versus"
    page = RunsRoot(root).comparison("versus").page
    text = page.read_text("utf-8")
    assert text.count("not played yet") == 3
    assert "**1 of 2 run seeds are played whole**; 8 prompts of `test` (`single`)" in text
    assert "| SFT |" in text
    state = flow(str(recipe), root=str(root), return_state=True)
    assert state.message == "6 runs; versus"
    assert "\n2 run seeds; 8 prompts" in page.read_text("utf-8")


@pytest.mark.slow
def test_an_arm_that_ends_early_does_not_cost_the_others_and_is_told(tmp_path: Path) -> None:
    recipe, root = tmp_path / "versus.yaml", tmp_path / "runs"
    recipe.write_text(RECIPE.replace("{iterations: 1, train: {beta: 5000}}", "{iterations: 2, train: {beta: 5000}}"))
    blocked = RunsRoot(root).run("versus.hard.0").iteration(2).path
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder should be")
    state = compare(recipe, root)
    with pytest.raises(TrainingError, match=r"1 runs ended early: versus\.hard\.0"):
        state.result()
    facts = read_facts(RunsRoot(root).comparison("versus").path)
    assert [(run.arm, run.failed is None) for run in facts.runs] == [("sft", True), ("spin", True), ("hard", False)]
    assert [row.row for row in facts.rows if row.arm == "hard"] == ["hard/iteration-02"]  # never an earlier one instead


@pytest.mark.slow
def test_a_run_that_another_process_plays_is_passed_over(tmp_path: Path) -> None:
    recipe, root = tmp_path / "versus.yaml", tmp_path / "runs"
    recipe.write_text(RECIPE)
    with only_one(RunsRoot(root).run("versus.spin.0")):
        state = compare(recipe, root)
    assert state.message == "3 runs; 1 are played by another process; versus"
    facts = read_facts(RunsRoot(root).comparison("versus").path)
    assert {run.arm: run.failed for run in facts.runs} == {"sft": None, "spin": "not played yet", "hard": None}


@pytest.mark.slow
def test_a_changed_recipe_names_a_way_out_that_there_is(compared: Compared, tmp_path: Path) -> None:
    changed = RECIPE.replace("beta: 5000", "beta: 4000")
    line = refused(tmp_path, changed, compared.root)
    assert line.startswith(f"{tmp_path}/recipe.yaml:1:")
    assert "train.beta: 5000.0 -> 4000.0" in line
    assert "give the recipe another name, or take another --root" in line
    assert "run.name" not in line


def test_the_papers_table_is_planned_offline_for_a_named_card(tmp_path: Path) -> None:
    from flows.compare_forecast import forecast_comparison

    source = load_recipe("sd15")
    found = forecast_comparison(source, root=str(tmp_path), gpu="h200")
    arms = {arm.arm: arm for arm in found.arms}
    assert (arms["sft"].images, arms["dpo"].images) == (2000 * 512, 350 * 2048)
    assert arms["spin"].sampled == 102_400 + 842_780 + 409_600
    assert arms["spin"].seconds > arms["dpo"].seconds > arms["sft"].seconds / 2 > 3600
    assert (found.device, found.seeds) == ("cuda", 1)
    assert "on h200" in found.told
    assert not any(tmp_path.iterdir())
