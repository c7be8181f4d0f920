"""The story against the score table it tells of, and against runs that are only half there."""

import re

import pytest

from spin.core.layout import RunsRoot
from spin.report.figures import difference, level, outcome
from spin.report.request import ReportRequest
from spin.report.room import run
from spin.report.story import BETTER, WORSE
from spin.report.verdict import minus_before, minus_start

CONFIG = {
    "iterations": 3, "model": {"base": "miniature"}, "sampling": {"num_inference_steps": 20, "guidance_scale": 1.0},
    "data": {"source": "miniature", "target": "winners", "path": None},
    "sft": {"steps": 360, "lr": 1e-4, "batch_size": 32},
    "train": {"beta": [1000.0, 1000.0, 2000.0], "lr": 3e-5, "steps": 120, "batch_size": 32},
    "evaluation": {"split": "test", "guidance_scale": 3.0, "num_inference_steps": 20, "seed": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def told(finished_run):
    return run(ReportRequest(finished_run.root, finished_run.name, page=False))


def story_of(builder, **changes):
    if changes:
        builder.write_record(builder.record() | changes)
    return run(ReportRequest(builder.root, builder.name, page=False)).story


def sections(story):
    return re.findall(r"^## (.+)$", story, re.MULTILINE)


def tables(story):
    """Every table as lists of cells; a pipe that is escaped ends no cell."""
    found, block = [], []
    for line in [*story.splitlines(), ""]:
        if line.startswith("|"):
            block.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif block:
            found.append(block)
            block = []
    return found


def test_the_sections_follow_each_other(told):
    assert told.story.startswith("# Run miniature\n")
    assert sections(told.story) == [
        "Iterations", "Held-out denoising loss", "Gate", "Config", "Data", "Files", "Next",
    ]  # fmt: skip


def test_a_finished_run_says_so_with_its_verdict_and_its_time(told):
    assert "**Finished.** 5 of 5 stages are done (base, SFT, SPIN 1, SPIN 2, SPIN 3)." in told.story
    assert told.verdict in told.story
    assert "Time spent: 1 min 20 s (sampling 30 %, training 35 %, evaluation 35 %)." in told.story


def test_every_table_has_rows_as_wide_as_its_header(told):
    assert [len(table) for table in tables(told.story)] == [2 + 6, 2 + 4, 2 + 3, 2 + 4, 2 + 1]
    assert {len(row) - len(table[0]) for table in tables(told.story) for row in table} == {0}


def test_means_are_those_of_the_score_table_and_the_best_is_bold(told):
    header, _, *lines = tables(told.story)[0]
    assert header[1:3] == ["Alignment", "Aesthetic"]
    assert header[4] == "Frechet to data (lower)"
    assert [line[0] for line in lines] == [row.label for row in told.rows]
    bold = 0
    for line, row in zip(lines, told.rows, strict=True):
        cells = [cell for cell in row.cells if cell.column.kind != "average"]
        for shown, cell in zip(line[1:], cells, strict=True):
            assert shown.strip("*") == level(cell.column, cell.mean.value if cell.mean else None)
            assert shown.startswith("**") == cell.best
            bold += cell.best
    assert bold >= 6


@pytest.mark.parametrize(("place", "pick", "opponents"), [
    (1, minus_before, ["base", "SFT", "SPIN 1", "SPIN 2"]),
    (2, minus_start, ["SFT", "SFT", "SFT"]),
])  # fmt: skip
def test_differences_are_those_of_the_score_table(told, place, pick, opponents):
    header, _, *lines = tables(told.story)[place]
    assert header[1:] == ["Alignment", "Aesthetic", "Attributes"]
    rows = told.rows[-len(opponents) :]
    assert [line[0] for line in lines] == [f"{r.label} minus {o}" for r, o in zip(rows, opponents, strict=True)]
    marks = {"better": f" {BETTER}", "worse": f" {WORSE}", "same": ", not distinguishable"}
    for line, row in zip(lines, rows, strict=True):
        for shown, cell in zip(line[1:], row.cells[:3], strict=True):
            found = pick(row, cell)
            assert shown == difference(cell.column, found.difference) + marks[outcome(cell.column, found)]


def test_some_difference_is_marked_and_some_is_not(told):
    cells = [cell for line in tables(told.story)[1][2:] for cell in line[1:]]
    assert any(cell.endswith(BETTER) for cell in cells)
    assert any(cell.endswith("], not distinguishable") for cell in cells)


def test_the_held_out_loss_is_told_against_the_model_before(told):
    _, _, *lines = tables(told.story)[3]
    assert [(line[0], line[4]) for line in lines][:3] == [("SFT", "falls"), ("SPIN 1", "rises"), ("SPIN 2", "rises")]
    assert lines[0][2].endswith("(base)")
    assert float(lines[0][1]) < float(lines[0][2].split()[0])
    assert float(lines[1][2].split()[0]) == float(lines[0][1])


def test_the_gate_tells_what_its_rules_say(told):
    text = told.story.split("## Gate")[1].split("## Config")[0]
    assert "The gate is off; this is what its rules would say." in text
    assert "- SFT: the rules say **go-on**. SFT gains on base: " in text
    assert "- SPIN 1: the rules say **stop**." in text
    assert "By these rules the best model so far is **SFT**." in text


def test_what_was_decided_at_the_gate_is_told(builder):
    builder.stages = ("base", "sft", "iteration-01")
    builder.build()
    record = builder.record()
    record["stages"][2]["gate"] = {"decision": "stop", "by": "a person", "reasons": [], "model": "x"}
    stopped = {"after": "iteration-01", "best": "sft"}
    config = CONFIG | {"gate": {"mode": "person", "metric": "aesthetic"}}
    story = story_of(builder, stages=record["stages"], config=config, stopped=stopped)
    assert (
        "**Stopped by the gate after SPIN 1.** 3 of 5 stages are done (base, SFT, SPIN 1). The best model is SFT."
        in story
    )
    assert "Decided by a person: **stop**." in story
    assert "The gate is off" not in story
    assert "Next: " not in story.split("## ")[0]


def test_a_judge_that_is_not_there_does_not_stop_the_story(builder):
    builder.stages = ("base", "sft")
    builder.scorers = ("aesthetic",)
    builder.build()
    story = story_of(builder, config=CONFIG | {"gate": {"mode": "rules", "metric": "alignment"}})
    assert "gate.metric: 'alignment' has not judged SFT against base" in story


def test_the_config_is_told_in_short(builder):
    builder.stages = ("base", "sft")
    builder.build()
    story = story_of(builder, config=CONFIG)
    assert "- SFT first: 360 steps of 32 images, lr 0.0001\n" in story
    assert "- the opponent draws in 20 steps at guidance 1\n" in story
    assert "- base model `miniature`, digest `" in story
    _, _, *lines = tables(story)[-1]
    # 120 steps x 32 pairs = 3840; iterations 1 and 2 are alike
    assert lines == [
        ["1 to 2", "1000", "3e-05", "120", "32", "3\N{NARROW NO-BREAK SPACE}840"],
        ["3", "2000", "3e-05", "120", "32", "3\N{NARROW NO-BREAK SPACE}840"],
    ]


def test_the_data_is_told_with_what_was_set_aside(builder):
    builder.stages = ("base",)
    builder.build()
    story = story_of(builder, quarantined={"too small": 2, "no | caption": 3})
    assert "- source: miniature, target winners\n" in story
    assert "- 384 train rows, 128 validation rows, 256 test rows\n" in story
    assert "- set aside in quarantine: 5 (too small: 2, no \\| caption: 3)\n" in story
    assert "left out by rule" not in story
    dropped = {"tie": 1200, "no label": 3}
    assert "- left out by rule, not bad: tie: 1" in story_of(builder, dropped=dropped)
    assert "200, no label: 3\n" in story_of(builder, dropped=dropped)
    assert "height and width" not in story_of(builder)
    told = "- train rows by height and width in pixels: 512 x 512: 300, 448 x 576: 84\n"
    assert told in story_of(builder, buckets={"512 x 512": 300, "448 x 576": 84})


@pytest.mark.system
def test_files_and_commands_are_named_by_whole_paths(builder):
    builder.stages = ("base", "sft", "iteration-01")
    builder.build()
    record = builder.record()
    record["stages"][2]["checkpoint"] = "miniature/iteration-01/checkpoints/step-000120"
    story = story_of(builder, stages=record["stages"])
    assert f"- SPIN 1: `{builder.root}/miniature/iteration-01/checkpoints/step-000120`\n" in story
    assert f"`spin-diffusion status miniature --root {builder.root}`" in story
    assert f"`spin-diffusion report miniature --root {builder.root}`" in story
    assert f"`spin-diffusion sample-shard miniature 1 0 --root {builder.root}`" in story
    assert "contact-sheet.png`" in story
    assert "index.html" not in story  # nobody has asked for the page yet
    run(ReportRequest(builder.root, builder.name))
    assert f"- report: `{RunsRoot(builder.root).run('miniature').report}`\n" in story_of(builder)


def test_names_with_pipes_and_markup_break_no_table(builder):
    builder.stages = ("base", "sft", "iteration-01")
    builder.build()
    record = builder.record()
    record["stages"][1]["label"] = "SFT | *wild* <b>"
    config = CONFIG | {"data": {"source": "imagefolder", "path": "/my|pictures/`x`"}}
    story = story_of(builder, stages=record["stages"], config=config, run="a|b *c*")
    assert {len(row) - len(table[0]) for table in tables(story) for row in table} == {0}
    assert tables(story)[0][2 + 2][0] == r"SFT \| \*wild\* \<b\>"
    assert r"SPIN 1 minus SFT \| \*wild\* \<b\>" in story
    assert story.startswith("# Run a\\|b \\*c\\*\n")
    assert "`` /my|pictures/`x` ``" in story
    assert "<b>" not in story


def test_a_run_of_which_only_the_record_exists_has_a_story(builder):
    builder.write_bare_record()
    told = run(ReportRequest(builder.root, builder.name, page=False))
    assert "**Begun.** 0 of 4 stages are done. Next: base, not begun." in told.story
    assert "No model of this run has been scored yet." in told.story
    assert "Not prepared yet." in told.story
    assert sections(told.story) == ["Config", "Data", "Files", "Next"]
    assert (told.scores, told.sheet, told.evidence) == ((), None, ())


def test_a_run_of_which_only_the_base_is_scored_has_a_story(builder):
    builder.stages = ("base",)
    builder.build()
    told = run(ReportRequest(builder.root, builder.name, page=False))
    builder.write_record(builder.record() | {"config": CONFIG})
    story = story_of(builder)
    assert "**Under way.** 1 of 5 stages are done (base). Next: SFT, not begun." in story
    assert sections(story) == ["Iterations", "Config", "Data", "Files", "Next"]
    assert len(tables(story)) == 2  # means and settings; there is nothing to compare with
    assert "sample-shard" not in story
    assert told.evidence == ()
    assert [row["model"] for row in told.scores] == ["data", "base"]


def test_own_data_without_judges_has_a_story(builder):
    builder.stages = ("base", "sft", "iteration-01")
    builder.scorers = ()
    builder.build()
    story = story_of(builder)
    assert sections(story)[:3] == ["Iterations", "Held-out denoising loss", "Gate"]
    assert "Held-out rows (test split" in story
    assert "SFT gains on base: held-out loss +0.00" in story


def test_what_is_damaged_is_named(builder):
    builder.stages = ("base", "sft")
    builder.build()
    scores = builder.evaluation("sft").scores(0)
    scores.write_bytes(scores.read_bytes()[:-9] + b"XXXXXXXXX")
    assert "- Left out: evaluations/" in story_of(builder)


def test_score_rows_are_flat_and_share_their_keys(told):
    keys = [tuple(row) for row in told.scores]
    assert len(set(keys)) == 1
    assert keys[0][:3] == ("model", "Alignment", "Aesthetic")
    assert all(isinstance(value, str | float) for row in told.scores for value in row.values())
    sft, last = told.scores[2], told.scores[-1]
    cells = {cell.column.title: cell for cell in told.rows[-1].cells}
    assert last["Aesthetic"] == round(cells["Aesthetic"].mean.value, 2)
    assert last["Attributes (%)"] == round(100 * cells["Attributes"].mean.value, 1)
    before = minus_before(told.rows[-1], cells["Aesthetic"])
    assert last["Aesthetic minus the model before"] == difference(cells["Aesthetic"].column, before.difference)
    assert last["Aesthetic minus the start"] != last["Aesthetic minus the model before"]
    assert sft["Aesthetic minus the model before"].startswith("+")
    assert sft["Aesthetic minus the start"] == ""  # it is the start
    assert told.scores[0]["Held-out loss (lower)"] == ""  # the data has no loss
