"""Any checkpoints side by side: the same prompts, seeds and judges, one report; nothing is scored twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spin.core.errors import ConfigError, DataError
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.record import newest_run, read_record
from spin.core.schema import read_table
from spin.core.store import discard
from tests.evaluate.judge_folder import write_judges
from tests.flows.command_line import type_in
from tests.flows.conftest import Played

pytestmark = pytest.mark.system

FAST = ("evaluation.num_inference_steps=2", "evaluation.images_per_prompt=2", "evaluation.batch_size=4")


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_judges(tmp_path_factory.mktemp("judges"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "mine.txt"
    path.write_text("a large red circle on a navy background\na small blue square on a white background\n\nfox\n")
    return path


@pytest.fixture
def checkpoints(played: Played) -> list[str]:
    root = RunsRoot(played.root)
    return [
        str(path)
        for number in (1, 2)
        for path in root.run("tiny").iteration(number).path.glob("checkpoints/step-*[0-9]")
    ]


def compare(root: Path, checkpoint: str, **given: Any) -> tuple[str, Any]:
    from flows.evaluate_checkpoint import evaluate_checkpoint

    state: Any = evaluate_checkpoint(checkpoint, root=str(root), return_state=True, **given)
    return state.message, state.result()


def test_checkpoints_are_scored_by_the_published_judges_on_every_benchmark(
    checkpoints: list[str], judges: Path, prompts: Path, tmp_path: Path
) -> None:
    settings = [*FAST, f"evaluation.scorers_folder={judges}", "execution.device=cpu"]
    given = {"against": ["miniature", checkpoints[0]], "benchmarks": [str(prompts), "paper_figures"], "name": "versus"}
    message, found = compare(tmp_path, checkpoints[1], settings=settings, **given)
    assert message == f"{3 * 2 * (3 + 8)} images scored; versus"
    record = read_record(RunsRoot(tmp_path).run("versus"))
    assert [stage["label"] for stage in record["stages"]] == ["miniature", "tiny/iteration-01", "tiny/iteration-02"]
    for stage in record["stages"]:
        assert list(stage["evaluations"]) == ["mine.best_of_n", "paper_figures.best_of_n"]
        folder = EvaluationFolder(tmp_path / stage["evaluations"]["paper_figures.best_of_n"])
        rows = read_table(folder.scores(0)).to_pylist()
        assert {row["scorer"] for row in rows} == {"pickscore", "hpsv2", "image_reward", "aesthetic", "diversity"}
        assert {row["checkpoint"] for row in rows} == {stage["digest"]}
        assert {row["seed"] for row in rows} == {5775709}
    assert found.report.page is not None
    assert "tiny/iteration-02" in found.report.page.read_text("utf-8")
    again, _ = compare(tmp_path, checkpoints[1], settings=settings, **given)
    assert again == "nothing to do: 0 images; versus"
    assert newest_run(RunsRoot(tmp_path)) is None  # no night takes a comparison for a run


def test_the_command_compares_checkpoints_by_the_miniatures_own_judges(
    checkpoints: list[str], prompts: Path, tmp_path: Path
) -> None:
    answer = type_in(
        tmp_path, "evaluate", checkpoints[0], "--against", "miniature", "--benchmark", str(prompts), "--preset",
        "miniature", "--set", "evaluation.num_inference_steps=2", "--set", "evaluation.diversity_images=2",
    )  # fmt: skip
    assert (answer.code, answer.err) == (0, "")
    assert "12 images scored; comparison compare-tiny-iteration-01-" in answer.out
    assert "diversity" in answer.out
    (page,) = (tmp_path / "runs").glob("compare-*/report/index.html")
    assert "not distinguishable" in page.read_text("utf-8")


def test_a_child_flow_run_makes_a_lost_shard_of_a_comparison(
    checkpoints: list[str], judges: Path, prompts: Path, tmp_path: Path
) -> None:
    """What a worker does: it finds prompts, model and settings by the record alone."""
    from flows.children import evaluate_shards
    from flows.past_run import PastRun

    settings = [*FAST, f"evaluation.scorers_folder={judges}", "execution.device=cpu"]
    compare(tmp_path, checkpoints[0], benchmarks=[str(prompts)], settings=settings, name="children")
    stage = read_record(RunsRoot(tmp_path).run("children"))["stages"][0]
    folder = EvaluationFolder(tmp_path / stage["evaluations"]["mine.best_of_n"])
    whole = folder.scores(0).read_bytes()
    discard(folder.scores(0))
    again = PastRun.open(str(tmp_path), "children", here=True).asked(None).again
    prompts.rename(prompts.with_suffix(".away"))  # a worker elsewhere does not have the file
    try:
        results = evaluate_shards("children", "model-00", [0], again, None, None, str(tmp_path))
    finally:
        prompts.with_suffix(".away").rename(prompts)
    assert [result.images_scored for result in results] == [6]
    assert folder.scores(0).read_bytes() == whole


@pytest.mark.parametrize(("arguments", "line"), [
    (("nowhere/model",), "no such folder, and the hub does not give it"),
    (("miniature", "--benchmark", "test"), "test and validation are rows held out of a run's data"),
    (("miniature", "--benchmark", "no-such-benchmark"), "expected one of test, validation"),
    (("miniature", "--benchmark", "gone.txt"), "gone.txt"),
    (("miniature", "--preset", "sd16"), "unknown preset 'sd16'"),
    (("miniature", "--set", "train.lr=1"), "only evaluation.* and execution.* are part of a comparison"),
    (("miniature", "--set", "evaluation.scorers=[alignment]"), "alignment is none of the published judges'"),
    (("no-run",), "no run 'no-run'"),
    (("miniature", "--checkpoint", "newest"), "--checkpoint is for the models of a run"),
    (("no-run", "--name", "x"), "--against, --name and --preset are for checkpoints"),
])  # fmt: skip
def test_bad_input_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert line in type_in(tmp_path, "evaluate", *arguments).line


def test_a_judge_without_its_files_is_one_line_that_names_them(tmp_path: Path, prompts: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = type_in(
        tmp_path, "evaluate", "miniature", "--benchmark", str(prompts), "--set", "evaluation.scorers_folder=empty"
    ).line
    assert "weights are missing" in line
    assert "empty/pickscore/config.json" in line


def test_a_file_of_bad_prompts_is_refused_with_file_and_row(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "fox"}\n{"prompt": "   "}\n{"prompt": 7}\n')
    line = type_in(tmp_path, "evaluate", "miniature", "--benchmark", "bad.jsonl").line
    assert "bad.jsonl" in line
    assert "2 of 3" in line


@pytest.mark.slow
def test_benchmarks_of_a_run_are_written_into_its_record_and_its_report(copy: Any, prompts: Path) -> None:
    from flows.evaluate import evaluate
    from flows.report import report_run

    run = copy()
    scores = evaluate(
        "tiny", benchmarks=[str(prompts)], settings=["evaluation.diversity_prompts=1"], root=str(run.root)
    )
    assert [row.label for row in scores] == ["base", "SFT", "SPIN 1", "SPIN 2"]  # it brings no real images
    assert {row.benchmark for row in scores} == {"mine"}
    record = read_record(RunsRoot(run.root).run("tiny"))
    for stage in record["stages"]:
        assert list(stage["evaluations"]) == ["test.single", "mine.single"]
        assert stage["evaluation"] == stage["evaluations"]["test.single"]
    page = report_run("tiny", root=str(run.root)).page
    assert page is not None
    assert "mine" in page.read_text("utf-8")


def test_a_prompt_set_that_stands_is_found_by_its_folders_name(tmp_path: Path, prompts: Path) -> None:
    from flows.asking import prompt_set
    from spin.miniature.packaged import packaged_pipeline_path

    root, model = RunsRoot(tmp_path), packaged_pipeline_path()
    made = prompt_set(str(prompts), root, limit=None, max_bad_share=0.1, model=model)
    again = prompt_set(made.again, root, limit=None, max_bad_share=0.1, model=Path("/nowhere"))
    assert again == made
    assert made.prompts is not None
    tokens = read_table(made.prompts, ["tokens", "truncated"]).to_pylist()
    assert [row["truncated"] for row in tokens] == [False, False, False]
    assert all(row["tokens"] > 2 for row in tokens)
    with pytest.raises((ConfigError, DataError)):
        prompt_set("mine-0000000000000000", root, limit=None, max_bad_share=0.1, model=model)


def test_the_evaluation_of_the_paper_is_what_a_comparison_takes(played: Played) -> None:
    from flows.evaluate_checkpoint import comparison_config
    from flows.requests import Model

    model = Model("model-00", "m", played.root, "d" * 64)
    evaluation = comparison_config([model], ["pickapic_test"], None, "sd15-paper", [], "runs").evaluation
    assert (evaluation.protocol, evaluation.images_per_prompt, evaluation.scheduler) == ("best_of_n", 5, "pndm")
    assert (evaluation.guidance_scale, evaluation.num_inference_steps, evaluation.seed) == (7.5, 50, 5775709)
    assert (evaluation.judges, evaluation.hps_version) == ("published", "v2.0")
    assert json.dumps(evaluation.benchmarks) == '["pickapic_test"]'


def test_other_questions_about_a_checkpoint_have_comparisons_of_their_own(tmp_path: Path, played: Played) -> None:
    from flows.evaluate_checkpoint import comparison_config
    from flows.requests import Model

    one, two = (Model(f"model-0{i}", "m", played.root, str(i) * 64) for i in range(2))
    asked = [([one], ["a.txt"]), ([one], ["b.txt"]), ([two, one], ["a.txt"]), ([one], ["a.txt"])]
    names = [comparison_config(models, files, None, "miniature", [], "runs").run.name for models, files in asked]
    assert len(set(names)) == 3
    assert names[0] == names[3]


def test_a_name_that_is_taken_says_how_to_choose_another(tmp_path: Path, prompts: Path) -> None:
    given = ("evaluate", "miniature", "--benchmark", str(prompts), "--preset", "miniature", "--name", "mine")
    fast = ("--set", "evaluation.num_inference_steps=2")
    assert type_in(tmp_path, *given, *fast).code == 0
    line = type_in(tmp_path, *given, *fast, "--set", "evaluation.seed=1").line
    assert "comparison 'mine' stands with other checkpoints, settings or code" in line
    assert "evaluation.seed: 5775709 -> 1" in line
    assert line.endswith("choose another --name")


def test_prompts_of_a_comparison_stay_though_their_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("fox\ncat\n")
    settings = ["evaluation.num_inference_steps=2", "evaluation.diversity_prompts=0"]
    given = {"benchmarks": [str(file)], "preset": "miniature", "settings": settings, "name": "kept"}
    assert compare(tmp_path / "runs", "miniature", **given)[0] == "2 images scored; kept"
    file.write_text("another\n")
    assert compare(tmp_path / "runs", "miniature", **given)[0] == "nothing to do: 0 images; kept"
