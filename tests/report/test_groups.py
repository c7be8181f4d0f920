import numpy as np
import pytest

from spin.miniature.world import split_attributes
from spin.report.boards import board
from spin.report.reading import read_run


def groups(builder):
    run = read_run(runs_root=builder.root, run=builder.name)
    return board(run, run.key).groups


@pytest.fixture
def styled(builder):
    builder.captions = [a.caption for a in split_attributes("test")[:24]]
    builder.categories, builder.challenges = ("Animals", "Vehicles"), ("Basic", "Basic", "Rare")
    builder.stages, builder.scorers = ("base", "sft"), ("alignment",)
    builder.build()
    return builder


def test_the_difference_inside_a_category_by_hand(styled):
    even = np.arange(24.0)
    styled.write_scores("base", {"alignment": even})
    styled.write_scores("sft", {"alignment": even + np.tile([1.0, -2.0], 12)})
    table = groups(styled)[0]
    assert (table.kind, table.model, table.opponent) == ("category", "SFT", "base")
    shown = [(line.name, line.prompts, line.cells[0].difference.value, line.cells[0].wins.wins) for line in table.lines]
    assert shown == [("Animals", 12, 1.0, 12), ("Vehicles", 12, -2.0, 0)]


def test_groups_of_few_prompts_are_named_and_not_judged(styled):
    table = groups(styled)[1]
    assert (table.kind, [line.name for line in table.lines], table.small) == ("challenge", ["Basic"], ("Rare (8)",))
    assert table.lines[0].prompts == 16


def test_the_last_model_is_compared_with_the_start_of_the_game(styled):
    styled.stages = ("base", "sft", "iteration-01")
    styled.build()
    assert {(table.model, table.opponent) for table in groups(styled)} == {("SPIN 1", "SFT")}


def test_a_benchmark_without_categories_has_no_such_table(finished_run):
    assert groups(finished_run) == ()
