from rich.console import Console

from spin.report.request import ReportRequest
from spin.report.room import run
from spin.report.terminal import print_table
from tests.report.conftest import PAPER


def printed(builder, width=140, *, page=False):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    print_table(run(ReportRequest(builder.root, builder.name, page=page)), console)
    return console.export_text()


def test_the_terminal_shows_the_same_table(finished_run):
    text = printed(finished_run, page=True)
    assert f"{finished_run.values('sft', 'aesthetic').mean():.2f}" in text
    assert "SPIN 3 beats the SFT start" in text
    assert "index.html" in text


def test_what_is_not_distinguishable_is_said_and_eighty_columns_are_enough(finished_run):
    lines = printed(finished_run, width=80).splitlines()
    assert any("not distin-" in line for line in lines)
    assert any(line.startswith("  SPIN 3  ") for line in lines)
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)


def test_diversity_per_prompt_does_not_widen_the_tables(builder):
    builder.stages = ("base", "sft")
    builder.build()
    for stage in builder.stages:
        values = {scorer: builder.values(stage, scorer) for scorer in builder.scorers}
        builder.write_scores(stage, values | {"diversity": builder.values(stage, "aesthetic")})
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in printed(builder, width=80).splitlines())


def test_a_long_label_is_folded_so_that_numbers_and_words_stay_whole(builder):
    builder.stages, builder.scorers = ("base", "sft"), PAPER
    builder.build()
    record = builder.record()
    record["stages"][1]["label"] = "miniature/iteration-01-with-a-name"
    builder.write_record(record)
    builder.write_scores("base", {scorer: builder.values("sft", scorer) for scorer in PAPER})
    text = printed(builder, width=80)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "not distin-" in text


def test_markup_in_labels_is_shown_as_text(builder):
    builder.stages = ("base",)
    builder.build()
    record = builder.record()
    record["stages"][0]["label"] = "[red]base[/red]"
    builder.write_record(record)
    assert "[red]base" in printed(builder)


def test_a_run_without_scores_prints_its_verdict(builder):
    builder.write_bare_record()
    assert "No model of this run has been scored yet." in printed(builder)
